//! Who the fleet is, its settings, its epoch.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::row::Columns;
use super::{By, During, Store, StoreError};
use crate::model::Name;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    pub id: Uuid,
    pub name: Name,
    pub created: Timestamp,
    /// Of the documents signed from now on. Starts at 0, raised only by [`Store::raise_epoch`].
    pub epoch: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error("the database already holds the fleet `{0}`")]
    Exists(Name),
    #[error("the epoch cannot be raised any more")]
    LastEpoch,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Makes the one fleet of this database.
    pub async fn create_fleet(&self, id: Uuid, name: &Name, by: &By) -> Result<Fleet, FleetError> {
        let mut change = self.change("make the fleet").await?;
        let made = sqlx::query(
            "INSERT INTO fleet (only_row, id, name, created, epoch, pushes) VALUES (1, $1, $2, $3, 0, 0)
             ON CONFLICT (only_row) DO NOTHING",
        )
        .bind(id.to_string())
        .bind(name.as_str())
        .bind(by.now.as_millisecond())
        .execute(change.connection())
        .await
        .during("make the fleet")?;
        if made.rows_affected() == 0 {
            drop(change);
            return Err(FleetError::Exists(self.fleet().await?.ok_or(StoreError::NoFleet)?.name));
        }
        change.audit(by, "fleet.create", json!({ "id": id, "name": name })).await?;
        change.commit().await?;
        Ok(self.fleet().await?.ok_or(StoreError::NoFleet)?)
    }

    /// `None` before `socle controller init`.
    pub async fn fleet(&self) -> Result<Option<Fleet>, StoreError> {
        let doing = "read the fleet";
        let row = sqlx::query("SELECT id, name, created, epoch FROM fleet").fetch_optional(self.reader()).await;
        let read = |row: &sqlx::any::AnyRow| {
            Ok(Fleet {
                id: row.parsed("id")?,
                name: row.parsed("name")?,
                created: row.time("created")?,
                epoch: row.number("epoch")?,
            })
        };
        row.during(doing)?.as_ref().map(read).transpose().during(doing)
    }

    /// The answer to a generation that ran away: documents signed from now on are newer than all before, and
    /// count from generation 1. Gives the new epoch.
    pub async fn raise_epoch(&self, by: &By) -> Result<u32, FleetError> {
        let doing = "raise the epoch";
        let mut change = self.change(doing).await?;
        let epoch: Option<i64> = sqlx::query_scalar("UPDATE fleet SET epoch = epoch + 1 RETURNING epoch")
            .fetch_optional(change.connection())
            .await
            .during(doing)?;
        let epoch = u32::try_from(epoch.ok_or(StoreError::NoFleet)?).map_err(|_| FleetError::LastEpoch)?;
        change.audit(by, "fleet.raise-epoch", json!({ "epoch": epoch })).await?;
        change.commit().await?;
        Ok(epoch)
    }

    pub async fn settings(&self) -> Result<BTreeMap<String, String>, StoreError> {
        let doing = "read the settings";
        let rows = sqlx::query("SELECT key, value FROM settings").fetch_all(self.reader()).await.during(doing)?;
        rows.iter().map(|row| Ok((row.text("key")?, row.text("value")?))).collect::<Result<_, _>>().during(doing)
    }

    pub async fn setting(&self, key: &str) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar("SELECT value FROM settings WHERE key = $1")
            .bind(key)
            .fetch_optional(self.reader())
            .await
            .during("read a setting")
    }

    /// Sets, or with `None` takes away. The value goes into the audit: no secrets here.
    pub async fn set_setting(&self, key: &str, value: Option<&str>, by: &By) -> Result<(), StoreError> {
        let doing = "write a setting";
        let mut change = self.change(doing).await?;
        let query = match value {
            Some(value) => sqlx::query(
                "INSERT INTO settings (key, value) VALUES ($1, $2)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )
            .bind(key)
            .bind(value),
            None => sqlx::query("DELETE FROM settings WHERE key = $1").bind(key),
        };
        query.execute(change.connection()).await.during(doing)?;
        change.audit(by, "fleet.setting", json!({ "key": key, "value": value })).await?;
        change.commit().await
    }
}
