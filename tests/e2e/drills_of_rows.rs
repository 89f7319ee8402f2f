//! A restore that brings back other rows than were saved: its drill says so.

use crate::backups::{COUNTED, counted, rows};
use crate::drills::left_of_a_drill;
use crate::machine::{Done, Machine};

const DOCUMENT: &str = "schema = 1\n[instances.seven]\nrecipe = \"counted\"\nversion = \"1\"\ndomain = \"seven.example.org\"\n\
                        [repositories.home]\nlocation = \"/srv/backup\"\n";

/// Each row that is written is noted in another table, by a check: what checks do is done again when the dump is read
/// back, on top of what was noted before.
const NOTES: &str = "create table noted (n int);
create function note(n int) returns boolean language plpgsql as 'begin insert into public.noted values (n); return true; end';
alter table \"Odd name\" add constraint notes check (note(n));";

/// As somebody who has the application's own rights.
fn sql(machine: &Machine, statement: &str) -> String {
    let ask =
        ["runuser", "-u", "socle-seven", "--", "psql", "-XAtqd", "seven", "-v", "ON_ERROR_STOP=1", "-c", statement];
    machine.run(&ask).expect(0)
}

fn drill(machine: &Machine, more: &[&str]) -> Done {
    machine.socle(&[&["agent", "backup", "drill", "seven"][..], more].concat())
}

#[test]
fn a_restore_with_other_rows_fails_its_drill() {
    let machine = Machine::new("web-trixie");
    counted(&machine);
    machine.write("/root/seven.toml", DOCUMENT);
    machine.socle(&["agent", "apply", "/root/seven.toml"]).expect(0);
    machine.socle(&["agent", "backup", "now"]).expect(0);
    assert_eq!(drill(&machine, &["--json"]).json()["tables"], 1);

    sql(&machine, NOTES);
    assert_eq!(sql(&machine, "select count(*) from noted").trim(), "7");
    machine.socle(&["agent", "backup", "now"]).expect(0);
    let failed = drill(&machine, &[]);
    print!("{}{}", failed.stdout, failed.stderr);
    let said = "what was brought back is not what was saved: `public.noted` has 14 rows instead of 7";
    assert_eq!(failed.code, 3, "{} {}", failed.stdout, failed.stderr);
    assert!(failed.stdout.starts_with("seven  drill of snapshot ") && failed.stdout.contains("FAILED"));
    assert!(failed.stderr.contains(said) && !failed.stderr.contains("Odd name"), "{}", failed.stderr);
    assert_eq!(left_of_a_drill(&machine), "");
    let status = machine.socle(&["agent", "status"]).stdout;
    print!("{status}");
    assert!(status.contains(&format!("the last drill of `seven` from `home` failed: {said}")), "{status}");
    let told = &machine.socle(&["agent", "status", "--json"]).json()["backups"][0]["drill"];
    assert_eq!((&told["error"]["code"], &told["rto_ms"]), (&"backup.rows-differ".into(), &().into()), "{told}");
    // As the timer does it: the unit fails, so whoever watches units knows.
    assert_ne!(machine.run(&["systemctl", "start", "socle-drill@home.service"]).code, 0);
    let journal = machine.run(&["journalctl", "--no-pager", "--unit=socle-drill@home.service", "-o", "cat"]).stdout;
    assert!(journal.contains("seven  drill of") && journal.contains(said), "{journal}");
    assert_eq!(left_of_a_drill(&machine), "");
    // What serves people did not notice.
    assert_eq!((rows(&machine, "seven").trim(), sql(&machine, "select count(*) from noted").trim()), ("7", "7"));
    assert_eq!(machine.get("seven.example.org", "/").1, "counted at seven.example.org");

    sql(&machine, "alter table \"Odd name\" drop constraint notes");
    machine.socle(&["agent", "backup", "now"]).expect(0);
    assert_eq!(drill(&machine, &["--json"]).json()["tables"], 2);
    let status = machine.socle(&["agent", "status"]).expect(0);
    assert!(status.contains("  drill of ") && !status.contains("problem"), "{status}");
}

/// Its pause is a row and a file, and it answers nobody while the file is there.
const PAUSE: &str = r#"[[service]]
name = "idle"
exec = ["/usr/bin/sleep", "infinity"]
[[backup.enter]]
name = "note"
argv = ["/usr/bin/psql", "-X", "-d", "{db}", "-c", "create table if not exists pauses (n int); insert into pauses values (1)"]
[[backup.enter]]
name = "close"
argv = ["/usr/bin/touch", "{data}/closed"]
[[backup.leave]]
name = "forget"
argv = ["/usr/bin/psql", "-X", "-d", "{db}", "-c", "create table if not exists pauses (n int); delete from pauses"]
[[backup.leave]]
name = "open"
argv = ["/usr/bin/rm", "-f", "{data}/closed"]
"#;

const CLOSES: &str = "location = / {
    if (-f {{ data ~ \"/closed\" }}) {
        return 503;
    }
    return 200 {{ \"counted at \" ~ domain }};
}
";

/// Rows are compared with those of the pause, before it ends; and it ends, or nothing would answer.
#[test]
fn a_pause_that_is_a_row_is_no_other_row() {
    let machine = Machine::new("web-trixie");
    counted(&machine);
    machine.write("/etc/socle/recipes/counted/recipe.toml", &format!("{COUNTED}{PAUSE}"));
    machine.write("/etc/socle/recipes/counted/nginx.conf", CLOSES);
    machine.write("/root/seven.toml", DOCUMENT);
    machine.socle(&["agent", "apply", "/root/seven.toml"]).expect(0);
    machine.socle(&["agent", "backup", "now"]).expect(0);
    let drilled = drill(&machine, &["--json"]);
    assert_eq!(drilled.code, 0, "{} {}", drilled.stdout, drilled.stderr);
    assert_eq!(drilled.json()["tables"], 2);
    machine.socle(&["agent", "restore", "seven", "--yes"]).expect(0);
    assert_eq!(machine.get("seven.example.org", "/").0, 200);
    assert_eq!(sql(&machine, "select count(*) from pauses").trim(), "0");
}
