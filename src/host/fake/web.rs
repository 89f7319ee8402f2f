//! nginx in memory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::host::nginx::server_names;
use crate::host::{PortError, PortResult, WebServer};

/// Reads the real files below its root when it reloads. A text with the word `bogus` in it is one it
/// refuses; a foreign file with that word breaks the whole configuration.
pub struct FakeWeb {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    served: BTreeMap<String, String>,
    fail_reload: Option<PortError>,
    calls: Vec<String>,
}

impl FakeWeb {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), state: Mutex::default() }
    }

    /// What it serves since its last reload: file name in `sites-enabled` and text.
    pub fn served(&self) -> BTreeMap<String, String> {
        self.lock().served.clone()
    }

    /// The next reload fails like this.
    pub fn fail_reload(&self, error: PortError) {
        self.lock().fail_reload = Some(error);
    }

    /// `test blog`, `test without blog`, `test blog, shop together`, `reload`, in order.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enabled(&self) -> BTreeMap<String, String> {
        let entries = std::fs::read_dir(self.root.join("etc/nginx/sites-enabled")).into_iter().flatten().flatten();
        entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), self.text_of(entry.path()))).collect()
    }

    /// Absolute links are the server's: they are followed below our root.
    fn text_of(&self, path: PathBuf) -> String {
        let path = match std::fs::read_link(&path) {
            Ok(target) => self.root.join(target.strip_prefix("/").unwrap_or(&target)),
            Err(_) => path,
        };
        // A dangling link breaks nginx as a whole.
        std::fs::read_to_string(path).unwrap_or_else(|_| "bogus".to_owned())
    }
}

#[async_trait]
impl WebServer for FakeWeb {
    async fn test(&self, name: &str, text: Option<&str>) -> PortResult<()> {
        let without = if text.is_some() { "" } else { "without " };
        self.lock().calls.push(format!("test {without}{name}"));
        self.judge(name, text)
    }

    async fn test_all(&self, sites: &[(&str, &str)]) -> PortResult<()> {
        let names: Vec<&str> = sites.iter().map(|(name, _)| *name).collect();
        self.lock().calls.push(format!("test {} together", names.join(", ")));
        sites.iter().try_for_each(|(name, text)| self.judge(name, Some(text)))
    }

    async fn reload(&self) -> PortResult<()> {
        let enabled = self.enabled();
        let mut state = self.lock();
        state.calls.push("reload".to_owned());
        if let Some(error) = state.fail_reload.take() {
            return Err(error);
        }
        if enabled.values().any(|text| text.contains("bogus")) {
            return Err(PortError::new("nginx.reload", "nginx did not take the new configuration"));
        }
        state.served = enabled;
        Ok(())
    }
}

impl FakeWeb {
    fn judge(&self, name: &str, text: Option<&str>) -> PortResult<()> {
        let own = format!("socle-{name}.conf");
        if let Some((file, _)) = self.enabled().iter().find(|(file, text)| **file != own && text.contains("bogus")) {
            return Err(PortError::new(
                "nginx.broken",
                format!("nginx's configuration is broken without this site: {file}:1"),
            ));
        }
        let Some(text) = text else { return Ok(()) };
        if text.contains("bogus") {
            return Err(PortError::new("site.rejected", format!("nginx refuses the site `{name}`: unknown directive")));
        }
        let names = server_names(text);
        let foreign = self.enabled().into_iter().filter(|(file, _)| !file.starts_with("socle-"));
        match foreign
            .filter_map(|(file, text)| Some((server_names(&text).intersection(&names).next()?.clone(), file)))
            .next()
        {
            Some((taken, file)) => {
                Err(PortError::new("site.name-taken", format!("`{taken}` is already served by `{file}`")))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::contract;

    #[tokio::test]
    async fn keeps_the_contract() {
        let root = tempfile::tempdir().unwrap();
        for directory in ["sites-available", "sites-enabled"] {
            std::fs::create_dir_all(root.path().join("etc/nginx").join(directory)).unwrap();
        }
        contract::web(&FakeWeb::new(root.path()), root.path()).await;
    }
}
