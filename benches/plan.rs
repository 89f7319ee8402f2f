//! The pure part: a thousand instances from document to plan. `cargo bench`.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use socle::engine::{Observation, plan};
use socle::model::certificate::{KeyType, Meta, Origin};
use socle::model::document::Document;
use socle::model::unit::mark_of;
use socle::model::{Digest, Kind, Secret};
use socle::recipe::{Catalog, Context, Facts, compile_document};
use socle::resources::{AnyDesired, AnyObserved, Wanted};
use socle::resources::{account, certificate, database, directory, file, package, release, service, setup, site};

const INSTANCES: usize = 1000;

fn document() -> Document {
    let instances: serde_json::Map<String, serde_json::Value> = (0..INSTANCES)
        .map(|n| {
            let instance = serde_json::json!({
                "recipe": "wordpress", "version": "6.8.7", "domain": format!("blog{n}.example.org"), "aliases": [],
                "member": null, "state": "running", "limits": {}, "source": null,
                "params": { "title": format!("Blog {n}"), "admin-email": "admin@example.org" },
            });
            (format!("blog{n}"), instance)
        })
        .collect();
    let instances = serde_json::from_value(instances.into()).expect("instances are valid");
    Document { instances, ..Document::default() }
}

/// A blank server: everything is to be done, the longest plan there is.
fn blank(wanted: &[Wanted]) -> Observation {
    let seen = |kind| match kind {
        Kind::Package => AnyObserved::Package(package::Observed::Absent { candidate: "1".into() }),
        Kind::Account => AnyObserved::Account(account::Observed::Absent),
        Kind::Directory => AnyObserved::Directory(directory::Observed::Absent),
        Kind::File => AnyObserved::File(file::Observed::Absent),
        Kind::Release => AnyObserved::Release(release::Observed::default()),
        Kind::Database => AnyObserved::Database(database::Observed::default()),
        Kind::Service => AnyObserved::Service(service::Observed { exists: true, ..Default::default() }),
        Kind::Certificate => AnyObserved::Certificate(certificate::Observed::default()),
        Kind::Site => AnyObserved::Site(site::Observed::default()),
        Kind::Setup => AnyObserved::Setup(setup::Observed::default()),
    };
    let seen = wanted.iter().map(|w| (w.id.clone(), Ok(seen(w.id.kind)))).collect();
    Observation { seen, unlisted: BTreeMap::new() }
}

/// A server that is as wanted.
fn in_sync(wanted: &[Wanted]) -> Observation {
    let seen = wanted.iter().map(|w| (w.id.clone(), Ok(as_wanted(&w.desired)))).collect();
    Observation { seen, unlisted: BTreeMap::new() }
}

fn as_wanted(desired: &AnyDesired) -> AnyObserved {
    match desired {
        AnyDesired::Package(_) => AnyObserved::Package(package::Observed::Installed { version: "1".into() }),
        AnyDesired::Account(account) => AnyObserved::Account(account::Observed::Present {
            home: account.home.clone(),
            groups: account.groups.clone(),
            readers: account.readers.clone(),
        }),
        AnyDesired::Directory(directory) => AnyObserved::Directory(directory::Observed::Directory {
            owner: directory.owner.clone(),
            group: directory.group.clone(),
            mode: directory.mode,
        }),
        AnyDesired::File(file) => AnyObserved::File(file::Observed::File {
            digest: file.content.digest(),
            owner: file.owner.clone(),
            group: file.group.clone(),
            mode: file.mode,
        }),
        AnyDesired::Release(release) => {
            let id = release.spec.as_ref().expect("a release is wanted").id();
            let present = [(id.clone(), None)].into();
            AnyObserved::Release(release::Observed { present, current: Some(id), debris: BTreeSet::new() })
        }
        AnyDesired::Database(database) => AnyObserved::Database(database::Observed {
            database: true,
            roles: [database.owner.clone()].into(),
            owners: [database.owner.clone()].into(),
            extensions: database.extensions.clone(),
        }),
        AnyDesired::Service(service) => AnyObserved::Service(as_running(service)),
        AnyDesired::Certificate(certificate) => {
            let meta = Meta {
                source: Origin::Acme,
                names: certificate.names.clone(),
                not_before: certificate.now,
                not_after: certificate.now,
                issued_at: certificate.now,
                key: KeyType::P256,
                serial: "1".into(),
                authority: None,
                profile: None,
                renewal_id: None,
            };
            AnyObserved::Certificate(certificate::Observed { present: Some((1, meta)) })
        }
        AnyDesired::Site(site) => AnyObserved::Site(site::Observed {
            text: Some(site.text.to_string()),
            enabled: true,
            loaded: Some(format!("{}-1", Digest::of(site.text.as_bytes()))),
            certificate: Some(1),
        }),
        AnyDesired::Setup(setup) => AnyObserved::Setup(setup::Observed {
            state: Some(setup::State::Installed { release: setup.release.clone() }),
            proven: Some(setup.proof),
            ..Default::default()
        }),
    }
}

fn as_running(desired: &service::Desired) -> service::Observed {
    let running = service::Observed {
        exists: true,
        active: "active".into(),
        enabled: "enabled".into(),
        ..service::Observed::default()
    };
    let service::Desired::Own(own) = desired else { return running };
    let mark = mark_of(&own.text).map(str::to_owned).or(own.inputs.map(|inputs| inputs.to_string()));
    let of = |yes: bool, word: &str, other: &str| if yes { word } else { other }.to_owned();
    service::Observed {
        text: Some(own.text.to_string()),
        active: of(own.active != Some(false), "active", "inactive"),
        enabled: of(own.enabled, "enabled", "static"),
        inputs: mark,
        ..running
    }
}

fn benches(criterion: &mut Criterion) {
    let catalog = Catalog::built_in();
    let document = document();
    let facts = Facts::of_debian(13).expect("Debian 13 is known");
    let made_up = |recipe: &socle::recipe::Recipe| {
        recipe.secrets().into_iter().map(|spec| (spec.name, Secret::new("x".repeat(spec.length)))).collect()
    };
    let secrets = document
        .instances
        .iter()
        .map(|(name, i)| (name.clone(), made_up(catalog.get(&i.recipe).expect("the recipe is built in"))))
        .collect();
    let (keep, seen) = (BTreeMap::new(), BTreeMap::new());
    let certificates = BTreeMap::new();
    let context = Context {
        facts: &facts,
        secrets: &secrets,
        keep: &keep,
        seen: &seen,
        python_index: None,
        certificates: &certificates,
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let wanted = compile_document(&document, &catalog, &context).expect("the document is right");
    let (blank, in_sync) = (blank(&wanted), in_sync(&wanted));
    let plan_of = |seen| plan::plan(black_box(&wanted), seen);
    let (long, short) = (plan_of(&blank), plan_of(&in_sync));
    assert!(short.is_empty(), "not in sync: {:?}", short.steps.first());
    println!("{} resources; {} steps on a blank server", wanted.len(), long.steps.len());
    let mut group = criterion.benchmark_group(format!("{INSTANCES} instances"));
    group.sample_size(10);
    // Not timed: how long it takes to drop what came out.
    let compile = || compile_document(black_box(&document), &catalog, &context);
    group.bench_function("compile", |b| b.iter_with_large_drop(compile));
    group.bench_function("plan of a blank server", |b| b.iter_with_large_drop(|| plan_of(&blank)));
    group.bench_function("plan with nothing to do", |b| b.iter_with_large_drop(|| plan_of(&in_sync)));
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
