use super::*;
use crate::resources::About;

pub async fn apply(host: &Host, name: &str, change: &Change) -> Result<(), ApplyError> {
    let accounts = &host.accounts;
    let done = async {
        match change {
            Change::Create { description, home } => accounts.create(name, description, home).await,
            Change::SetHome { home } => accounts.set_home(name, home).await,
            Change::Join { groups } => {
                for group in groups {
                    accounts.join(name, group).await?;
                }
                Ok(())
            }
            Change::AddReaders { users } => {
                for user in users {
                    accounts.join(user, name).await?;
                }
                Ok(())
            }
            Change::Remove => accounts.remove(name).await,
        }
    };
    done.await.map_err(|error| ApplyError { report: error.report(), about: About::Host })
}
