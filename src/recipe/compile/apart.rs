//! An instance for a drill: the same application on ground of its own, with a web server of its own that listens
//! at a socket, and without what is of the whole server. Nothing of it is for visitors.

use std::collections::BTreeSet;
use std::sync::Arc;

use minijinja::Value;

use super::{Build, CompileProblem, Context, Https};
use crate::model::document::{Instance, InstanceState};
use crate::model::{Kind, Name, ResourceId};
use crate::recipe::Recipe;
use crate::recipe::schema::Exceptions;
use crate::resources::release::ReleaseId;
use crate::resources::service::Desired;
use crate::resources::setup::{Command, Probe};
use crate::resources::{AnyDesired, Wanted, file};

/// Everything of a drill.
pub struct Apart {
    /// Account, directories, files, release, databases, and how far the data is.
    pub ground: Vec<Wanted>,
    pub release: ReleaseId,
    /// What ends the pause in which its data was saved. It may write, so it is for when that was looked at.
    pub leave: Vec<Command>,
    /// Names and texts, in the order they are to be started; the web server is the first.
    pub units: Vec<(String, Arc<str>)>,
    /// What nginx is to find as its own configuration, a file of `ground`.
    pub configuration: String,
    /// Where the web server listens.
    pub socket: String,
    pub probes: Vec<Probe>,
}

/// `instance` as `name`: with its domain, so that its data fits, and without timers and certificates.
pub fn compile_apart(
    name: &Name,
    instance: &Instance,
    recipe: &Recipe,
    context: &Context<'_>,
) -> Result<Apart, Vec<CompileProblem>> {
    let instance = Instance {
        state: InstanceState::Running,
        aliases: BTreeSet::new(),
        secrets: Default::default(),
        certificate: Default::default(),
        ..instance.clone()
    };
    let https = Https { names: Vec::new(), hsts: None };
    let mut build = Build::new(name, &instance, recipe, context, &https);
    let web = format!("/run/socle-{name}-web");
    let socket = format!("{web}/web.sock");
    build.apart = Some(socket.clone());
    build.platform();
    let spec = build.spec();
    let (Some(spec), true) = (spec, build.problems.is_empty()) else { return Err(build.problems) };
    let release = spec.id();
    build.account_and_directories();
    build.secret_files();
    build.files();
    build.databases();
    build.release(spec);
    build.web_server(&web, &release);
    build.php(&release);
    build.services(&release);
    build.setup(&release);
    if !build.problems.is_empty() {
        return Err(build.problems);
    }
    let configuration = format!("{}/config/web.conf", build.home());
    Ok(split(build.out, release, configuration, socket))
}

impl Build<'_> {
    fn web_server(&mut self, web: &str, release: &ReleaseId) {
        let site = Value::from_safe_string(self.served());
        let values = self.values([("site", site), ("web", Value::from(web))]);
        let text = self.render_text("apart.conf", include_str!("apart.conf"), values);
        let path = format!("{}/config/web.conf", self.home());
        self.file(&path, text, "root", 0o440, file::Write::Always);
        let mut unit = self.unit("the web server of a drill", &Exceptions::default(), 90);
        // What goes wrong before the configuration is read is told too.
        unit.exec = ["/usr/sbin/nginx", "-e", "stderr"].map(str::to_owned).to_vec();
        unit.runtime_directory = Some(web.trim_start_matches("/run/").to_owned());
        self.service("web-server", unit, release);
    }
}

fn split(out: Vec<Wanted>, release: ReleaseId, configuration: String, socket: String) -> Apart {
    let (mut units, mut leave, mut probes, mut ground) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for mut wanted in out {
        match &mut wanted.desired {
            AnyDesired::Service(Desired::Own(own)) => {
                units.push((wanted.id.name, own.text.clone()));
                continue;
            }
            AnyDesired::Setup(setup) => {
                leave = std::mem::take(&mut setup.quiet.leave);
                // They go to the whole server's web server; these are for the other.
                probes = std::mem::take(&mut setup.probes);
            }
            // Its web server is its own user.
            AnyDesired::Account(account) => account.readers.clear(),
            _ => {}
        }
        ground.push(wanted);
    }
    let there: BTreeSet<ResourceId> = ground.iter().map(|wanted| wanted.id.clone()).collect();
    for wanted in &mut ground {
        wanted.needs.retain(|need| there.contains(need));
        debug_assert!(!matches!(wanted.id.kind, Kind::Package | Kind::Site | Kind::Certificate));
    }
    Apart { ground, release, leave, units, configuration, socket, probes }
}
