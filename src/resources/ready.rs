//! How a change that was begun early learns that it may go on.

use tokio::sync::oneshot;

/// Comes when everything the change needs is done.
pub struct Ready(oneshot::Receiver<()>);

impl Ready {
    pub fn channel() -> (oneshot::Sender<()>, Self) {
        let (go, ready) = oneshot::channel();
        (go, Self(ready))
    }

    /// It came already.
    pub fn at_once() -> Self {
        let (go, ready) = Self::channel();
        let _ = go.send(());
        ready
    }

    /// For ever if it will not come: whoever waits is dropped.
    pub async fn wait(self) {
        if self.0.await.is_err() {
            std::future::pending().await
        }
    }
}
