//! The pure part: a thousand instances from document to plan. `cargo bench`.

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use socle::engine::{Observation, plan};
use socle::model::document::Document;
use socle::model::{Kind, Secret};
use socle::recipe::{Catalog, Context, Facts, compile_document};
use socle::resources::{AnyObserved, Wanted};
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
    let blank = blank(&wanted);
    let mut group = criterion.benchmark_group(format!("{INSTANCES} instances"));
    group.sample_size(10);
    // Not timed: how long it takes to drop what came out.
    let compile = || compile_document(black_box(&document), &catalog, &context);
    group.bench_function("compile", |b| b.iter_with_large_drop(compile));
    group.bench_function("plan of a blank server", |b| {
        b.iter_with_large_drop(|| plan::plan(black_box(&wanted), &blank))
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
