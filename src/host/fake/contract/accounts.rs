use super::set;
use crate::host::Accounts;

/// The user `user` and the group `group` exist. Nobody is called `name`, before and after.
pub async fn accounts(accounts: &dyn Accounts, name: &str, user: &str, group: &str) {
    let look = async |name: &str| accounts.states(&set([name])).await.expect("states")[name].clone();
    assert!(accounts.states(&set([])).await.expect("about nothing").is_empty());
    assert_eq!(look(name).await, None);
    let before = look(user).await.expect("it exists");

    // Once made, it stays as it is.
    accounts.create(name, "50% \"of\" a:b", "/srv/contract/data").await.expect("creates");
    accounts.create(name, "again", "/srv/contract/other").await.expect("creates again");
    let made = look(name).await.expect("it exists");
    assert!(made.uid > 0 && made.uid < 1000 && made.gid > 0, "a system user: {made:?}");
    assert_eq!(made.home, "/srv/contract/data");
    assert!(made.groups.is_empty() && made.readers.is_empty(), "{made:?}");

    for _ in 0..2 {
        accounts.join(user, name).await.expect("joins");
        accounts.join(name, group).await.expect("joins");
        accounts.set_home(name, "/srv/contract").await.expect("moves");
    }
    let changed = look(name).await.expect("it exists");
    assert_eq!((changed.uid, changed.gid, changed.home.as_str()), (made.uid, made.gid, "/srv/contract"));
    assert_eq!((changed.groups, changed.readers), (set([group]), set([user])));
    assert!(look(user).await.expect("it exists").groups.contains(name), "seen from both sides");

    for error in [
        accounts.join(user, "no-such-group").await.unwrap_err(),
        accounts.join("no-such-user", group).await.unwrap_err(),
        accounts.set_home("no-such-user", "/").await.unwrap_err(),
    ] {
        assert_eq!(error.code, "account.change", "{error}");
    }

    for _ in 0..2 {
        accounts.remove(name).await.expect("removes");
    }
    assert_eq!(look(name).await, None);
    assert_eq!(look(user).await.expect("it exists"), before, "its group went with it");
}
