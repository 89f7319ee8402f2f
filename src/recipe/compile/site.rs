//! The server block of an instance. The frame is the same for all; the recipe gives what stands
//! inside.

use minijinja::Value;

use super::{Build, id};
use crate::model::Kind;
use crate::recipe::schema::{SourceKind, WebKind};
use crate::resources::{AnyDesired, certificate, site};

/// Where nginx finds what proves control of a name (RFC 8555, 8.3).
pub const CHALLENGES: &str = "/run/socle-acme";

impl Build<'_> {
    pub(super) fn site(&mut self) {
        let text = if self.running() { self.served() } else { self.stopped() };
        self.site_text.clone_from(&text);
        let mut needs = self.wanted(&[Kind::Account, Kind::Certificate, Kind::Directory, Kind::Service]);
        needs.push(id(Kind::Release, self.name.as_str()));
        // A timer that does not start is no reason to serve nothing.
        needs.retain(|need| {
            !self.recipe.timers.iter().any(|t| need.name.starts_with(&format!("socle-{}-{}.", self.name, t.name)))
        });
        self.want(Kind::Site, self.name.as_str(), AnyDesired::Site(site::Desired { text: text.into() }), &needs);
    }

    pub(super) fn served(&mut self) -> String {
        let web = &self.recipe.web;
        let archive = self.recipe.source.kind == SourceKind::Empty && self.instance.source.is_some();
        let root = web.root_of_archive.as_ref().filter(|_| archive).unwrap_or(&web.root);
        let root = self.fill(root);
        let mut values = Vec::new();
        match (web.kind, &web.upstream) {
            (WebKind::PhpFpm, _) => {
                let fastcgi = self.render_text("fastcgi.conf", include_str!("fastcgi.conf"), self.values([]));
                values.push(("fastcgi", Value::from_safe_string(fastcgi)));
            }
            (WebKind::Proxy, Some(upstream)) => {
                let upstream = self.fill(upstream);
                let values_of_proxy = self.values([("upstream", Value::from(format!("http://{upstream}")))]);
                let proxy = self.render_text("proxy.conf", include_str!("proxy.conf"), values_of_proxy);
                values.push(("upstream", Value::from_safe_string(proxy)));
            }
            _ => {}
        }
        let locations = self.render(&web.locations, self.values(values));
        let locations: String = locations
            .lines()
            .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("    {line}\n") })
            .collect();
        self.frame([
            ("root", Value::from(root)),
            ("body_max_mb", Value::from(web.body_max_mb)),
            ("locations", Value::from_safe_string(locations)),
            ("stopped", Value::from(false)),
            ("from_disk", Value::from(self.recipe.web.kind != WebKind::Proxy)),
        ])
    }

    /// Says that it is stopped, with the status that tells search engines to come again.
    fn stopped(&mut self) -> String {
        self.frame([
            ("root", Value::from(self.home())),
            ("body_max_mb", Value::from(1)),
            ("locations", Value::from("")),
            ("stopped", Value::from(true)),
            ("from_disk", Value::from(false)),
        ])
    }

    fn frame(&mut self, values: [(&'static str, Value); 5]) -> String {
        let aliases: Value = self.instance.aliases.iter().map(|alias| Value::from(alias.as_str())).collect();
        let trusted = self.context.certificates.get(self.name).is_some_and(|known| known.trusted);
        let values = self.values(values.into_iter().chain([
            ("aliases", aliases),
            ("debian", Value::from(self.context.facts.debian)),
            ("certificate", Value::from(certificate::current(self.name.as_str()))),
            ("challenges", Value::from(CHALLENGES)),
            ("trusted", Value::from(trusted)),
            ("hsts", Value::from(self.https.hsts)),
            ("private", Value::from(self.apart.clone())),
        ]));
        self.render_text("site.conf", include_str!("site.conf"), values)
    }
}
