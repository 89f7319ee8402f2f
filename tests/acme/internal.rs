//! Certificates of the fleet's own authority.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;
use socle::agent::certificates::internal::{FleetAuthority, FleetError, NoFleet};
use socle::agent::certificates::{Done, Keeper};
use socle::controller::authority::Authority;
use socle::model::Name;
use socle::model::certificate::{CertifiedName, Origin, Source, Wanted};

use super::ca::Clock;
use super::world::{World, hours, name, names};

/// The controller's own signing, without the wire.
struct Fleet {
    authority: Authority,
    names: Vec<CertifiedName>,
    clock: Clock,
    asked: AtomicUsize,
}

#[async_trait]
impl FleetAuthority for Fleet {
    async fn certify(&self, _: &Name, csr: Vec<u8>) -> Result<String, FleetError> {
        let serial = self.asked.fetch_add(1, Ordering::SeqCst);
        let now: Timestamp = self.clock.now();
        Ok(self.authority.for_site(&csr, &self.names, [u8::try_from(serial).unwrap() + 1; 16], now).unwrap())
    }
}

struct Inside {
    world: World,
    fleet: Arc<Fleet>,
}

impl Inside {
    /// `signed` are the names that the controller knows for the instance.
    async fn new(signed: &[&str]) -> Self {
        let mut world = World::new().await;
        let wanted = names(&["intranet.home.arpa", "*.intranet.home.arpa"]);
        world.settings.certificates =
            [(name("blog"), Wanted { name: name("blog"), names: wanted, source: Source::Internal })].into();
        let pem = Authority::create_for_sites("test", world.clock.now()).unwrap();
        let authority = Authority::load(&pem).unwrap();
        let (names, clock) = (names(signed), world.clock.clone());
        Self { world, fleet: Arc::new(Fleet { authority, names, clock, asked: AtomicUsize::new(0) }) }
    }

    fn keeper(&self) -> Keeper {
        self.world.keeper().with_fleet(self.fleet.clone())
    }

    async fn tend(&self) -> Done {
        self.keeper().tend_all(&self.world.settings, &Default::default()).await.unwrap().remove(0).done
    }

    fn asked(&self) -> usize {
        self.fleet.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn is_got_once_and_renewed_with_a_third_of_its_life_left() {
    let inside = Inside::new(&["intranet.home.arpa", "*.intranet.home.arpa"]).await;
    let Done::Committed { generation: 1, meta } = inside.tend().await else { panic!("not committed") };
    assert_eq!((meta.source, meta.names.len()), (Origin::Internal, 2));
    assert_eq!(inside.world.present("blog").unwrap().meta, meta);
    assert_eq!(inside.tend().await, Done::Fresh);
    // Thirty days, and three in the past.
    let due = inside.keeper().next_due(&inside.world.settings);
    assert_eq!(meta.not_after.duration_since(due), hours(11 * 24));
    inside.world.clock.set(due);
    assert!(matches!(inside.tend().await, Done::Committed { generation: 2, .. }));
    let standing = inside.keeper().standings(&inside.world.settings).remove(0);
    assert_eq!((standing.source, standing.missing.len()), (Some(Origin::Internal), 0));
    assert!(standing.next.is_some() && standing.last_error.is_none(), "{standing:?}");
    let asked = [name("blog")].into();
    let done = inside.keeper().tend_all(&inside.world.settings, &asked).await.unwrap().remove(0).done;
    assert!(matches!(done, Done::Committed { generation: 3, .. }), "{done:?}");
    assert_eq!(inside.asked(), 3);
}

#[tokio::test]
async fn without_a_controller_it_is_said_and_tried_again() {
    let inside = Inside::new(&["intranet.home.arpa", "*.intranet.home.arpa"]).await;
    let alone = inside.world.keeper().with_fleet(Arc::new(NoFleet));
    let settings = &inside.world.settings;
    let done = alone.tend_all(settings, &Default::default()).await.unwrap().remove(0).done;
    let Done::Failed { error, next } = done else { panic!("{done:?}") };
    assert!(error.to_string().contains("not connected to a controller") && error.hint.is_some(), "{error:?}");
    assert_eq!(next, inside.world.clock.now() + hours(1) / 60);
    assert!(matches!(inside.tend().await, Done::Waiting { .. }), "not before a minute is over");
    assert_eq!(alone.standings(settings)[0].last_error, Some(error));
    inside.world.sleep();
    assert!(matches!(inside.tend().await, Done::Committed { .. }));
    assert_eq!(inside.world.record("blog").failure, None);
}

#[tokio::test]
async fn one_for_other_names_is_not_put_in_place() {
    let inside = Inside::new(&["intranet.home.arpa"]).await;
    let done = inside.tend().await;
    let Done::Failed { error, .. } = done else { panic!("{done:?}") };
    assert!(error.to_string().contains("*.intranet.home.arpa"), "{error}");
    assert!(inside.world.present("blog").is_none());
}
