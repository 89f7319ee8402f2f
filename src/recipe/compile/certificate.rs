//! The certificate of an instance, as far as a pass is concerned.

use super::Build;
use crate::model::Kind;
use crate::resources::{AnyDesired, certificate};

impl Build<'_> {
    pub(super) fn certificate(&mut self) {
        let known = self.context.certificates.get(self.name);
        let source = known.map(|known| known.source.clone()).unwrap_or_default();
        let desired = certificate::Desired { names: self.https.names.clone(), source, now: self.context.now };
        self.want(Kind::Certificate, self.name.as_str(), AnyDesired::Certificate(desired), &[]);
    }
}
