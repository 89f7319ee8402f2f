//! The contract of the controller's store, run on SQLite and on a real PostgreSQL; then what only one of them has.

#![allow(clippy::disallowed_methods, reason = "a test runs programs and writes files")]

mod contract;
mod figures;
mod killed;
mod place;
mod postgres;
#[path = "../postgres/mod.rs"]
mod postgres_server;
mod sqlite;

use place::Place;

/// Runs every case on both. On SQLite each is a test with a file of its own; on PostgreSQL one test starts one
/// server, gives each case a database of its own and tells all that failed.
macro_rules! contract {
    ($($module:ident::$case:ident),* $(,)?) => {
        mod contract_on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    crate::contract::$module::$case(crate::Place::sqlite()).await;
                }
            )*
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn contract_on_postgres() {
            let Some(server) = postgres_server::Server::start() else { return };
            let mut failed = Vec::new();
            $(
                let place = Place::postgres(&server, stringify!($case)).await;
                if tokio::spawn(contract::$module::$case(place)).await.is_err() {
                    failed.push(stringify!($case));
                }
            )*
            assert!(failed.is_empty(), "failed on PostgreSQL: {failed:?}");
        }
    };
}

contract! {
    enrolment::a_token_enrols_one_server_once,
    enrolment::a_token_that_is_not_open_enrols_nobody,
    enrolment::of_two_keys_one_ever_wins,
    enrolment::who_is_enrolled_keeps_the_name_until_evicted,
    enrolment::another_machine_under_the_name_starts_from_nothing,
    enrolment::the_same_machine_goes_on_where_it_was,
    enrolment::banned_is_banned_under_every_name,
    enrolment::a_recovery_is_done_once,
    enrolment::no_secret_is_in_the_database,
    documents::a_push_gives_every_server_its_next_mark,
    documents::a_push_is_whole_or_not_at_all,
    documents::marks_go_on_from_what_the_server_reported,
    documents::a_raised_epoch_is_above_a_generation_that_ran_away,
    documents::old_documents_are_forgotten,
    documents::two_controllers_never_give_a_mark_twice,
    documents::revisions_count_by_one,
    documents::a_watcher_hears_of_every_server,
    outbox::an_item_is_stored_once_and_what_was_left_out_is_not_waited_for,
    outbox::the_last_report_is_the_one_with_the_highest_number,
    outbox::many_servers_in_one_transaction,
    outbox::history_is_bounded,
    outbox::two_controllers_take_the_same_item_once,
    presence::an_agent_is_where_it_connected_last,
    presence::a_connection_counts_while_its_controller_lives,
    presence::who_may_recover,
    presence::positions_in_a_batch,
    presence::batches_of_two_controllers_do_not_block_each_other,
    operators::one_fleet_a_database,
    operators::settings,
    operators::an_api_token_works_until_revoked,
    operators::every_change_is_in_the_audit,
    operators::an_alarm_is_counted_and_cleared,
    upkeep::what_was_written_is_there_after_reopening,
    upkeep::a_newer_database_is_refused,
    upkeep::damage_is_found,
    upkeep::a_dropped_change_is_undone,
    upkeep::a_killed_writer_loses_nothing_it_acknowledged,
}
