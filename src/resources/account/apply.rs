use super::*;
use crate::host::PortError;
use crate::resources::About;

pub async fn apply(host: &Host, name: &str, change: &Change) -> Result<(), ApplyError> {
    carry_out(host, name, change).await.map_err(|error| ApplyError { report: error.report(), about: About::Host })
}

async fn carry_out(host: &Host, name: &str, change: &Change) -> Result<(), PortError> {
    match change {
        Change::Create { description, home } => host.accounts.create(name, description, home).await,
        Change::SetHome { home } => host.accounts.set_home(name, home).await,
        Change::Join { groups } => {
            for group in groups {
                host.accounts.join(name, group).await?;
            }
            Ok(())
        }
        Change::AddReaders { users } => {
            for user in users {
                host.accounts.join(user, name).await?;
            }
            Ok(())
        }
        Change::Remove => host.accounts.remove(name).await,
    }
}
