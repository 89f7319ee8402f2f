use super::*;
use crate::resources::About;

pub async fn apply(host: &Host, name: &str, change: &Change) -> Result<(), ApplyError> {
    let (engine, database) = split(name).map_err(|report| ApplyError { report, about: About::Host })?;
    let databases = &host.databases;
    let done = match change {
        Change::CreateRole { role } => databases.create_role(engine, role).await,
        Change::CreateDatabase { owner } => databases.create_database(engine, database, owner).await,
        Change::Grant { owner } => databases.grant(engine, database, owner).await,
        Change::CreateExtension { extension } => databases.create_extension(engine, database, extension).await,
        Change::DropDatabase => databases.drop_database(engine, database).await,
        Change::DropRole { role } => databases.drop_role(engine, role).await,
    };
    done.map_err(|error| ApplyError { report: error.report(), about: About::Host })
}
