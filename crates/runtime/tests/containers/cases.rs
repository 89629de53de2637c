//! The test cases, one for each promise.

mod attacks;
pub mod chroot;
pub mod descriptors;
pub mod joined;
pub mod lifetime;
mod mounts;
mod process;
mod roots;
mod started;
mod terminals;

use std::pin::Pin;

use crate::fixture::Fixture;
use joined::{folder as joined_in_folder, namespaces as joined_in_namespaces};
use started::{folder as started_in_folder, namespaces as started_in_namespaces};
use terminals::{folder as terminals_in_folder, namespaces as terminals_in_namespaces};

/// The reason is given if a case cannot run.
type Outcome = Result<(), String>;
pub type Case = for<'a> fn(&'a Fixture) -> Pin<Box<dyn Future<Output = Outcome> + 'a>>;

macro_rules! cases {
    ($($group:ident::$name:ident)*) => {
        &[$((stringify!($name), |fixture| Box::pin($group::$name(fixture)))),*]
    };
}

pub const ALL: &[(&str, Case)] = cases![
    process::exit_codes_and_signals
    process::streams_apart
    process::environment_and_identity
    process::users_and_groups
    process::a_user_may_open_its_output
    process::unknown_users
    process::programs_that_cannot_run
    mounts::default_mounts_and_devices
    mounts::masked_and_read_only_kernel_files
    process::hosts_and_resolver
    process::working_directory
    roots::changes_and_no_stubs
    roots::stubs_with_content_stay
    roots::parents_keep_their_times
    mounts::bind_mounts
    mounts::overlays_as_mounts
    mounts::missing_sources
    mounts::tmpfs
    mounts::secrets
    mounts::replaced_defaults
    process::no_network
    process::limits
    process::capabilities
    process::filtered_calls
    attacks::no_attack_leaves_its_namespaces
    attacks::two_commands_in_namespaces_lead_each_other_nowhere
    mounts::devices_of_the_host
    process::insecure
    lifetime::cancel_kills_the_tree
    lifetime::dropping_kills_the_tree
    lifetime::a_killed_kiln_takes_the_tree_along
    lifetime::background_processes_end
    roots::hostile_links
    roots::hostile_kernel_mount_points
    roots::many_layers
    roots::plain_directory
    roots::used_again
    roots::opaque_and_whiteouts
    process::refusals
    lifetime::concurrent_runs
    process::large_output
    started_in_namespaces::input_reaches_the_command_until_its_end
    started_in_namespaces::ends_are_told_to_all_who_wait
    started_in_namespaces::a_handler_gets_its_signal
    started_in_namespaces::a_signal_without_handler
    started_in_namespaces::a_killed_container_leaves_nothing
    started_in_namespaces::a_dropped_container_ends
    started_in_namespaces::programs_that_cannot_run
    started_in_namespaces::output_waits_to_be_read
    started_in_namespaces::files_are_found_while_it_runs
    started_in_namespaces::processes_are_listed
    joined_in_namespaces::another_command_sees_the_container
    joined_in_namespaces::another_command_has_streams_and_an_end
    joined_in_namespaces::another_command_that_cannot_run
    joined_in_namespaces::another_command_ends_with_the_container
    joined_in_namespaces::a_dropped_command_ends_alone
    joined_in_namespaces::what_is_left_in_the_background_holds_no_output
    joined_in_namespaces::many_commands_at_once
    joined_in_namespaces::a_working_folder_is_inside_the_root
    joined_in_namespaces::kilns_program_is_not_to_be_had
    terminals_in_namespaces::a_terminal_has_a_size
    terminals_in_namespaces::a_terminal_passes_what_is_typed
    terminals_in_namespaces::another_command_has_a_terminal
    started::a_first_process_besides_the_command
    started::a_root_for_reading
    joined::another_command_has_the_same_rights
    joined::a_moved_root_is_not_the_containers
    joined::a_replaced_proc_deceives_nobody
    joined::a_killed_kiln_takes_joined_commands_along
];

/// The cases that need neither namespaces nor mounts.
pub const IN_FOLDERS: &[(&str, Case)] = cases![
    chroot::a_folder_has_the_kernels_files
    chroot::another_user_has_them_too
    chroot::links_of_processes_lead_where_they_say
    chroot::a_command_signals_nobody_outside
    chroot::a_link_gives_no_rights
    chroot::what_a_descriptor_is_of_can_be_changed
    chroot::what_is_moved_in_is_moved_out
    chroot::a_folder_that_was_moved_away_comes_back
    chroot::what_comes_back_is_known_by_what_it_is
    chroot::a_file_that_was_moved_away_comes_back
    chroot::a_link_is_no_mount_source
    chroot::the_kernels_folders_can_be_walked
    chroot::terminals_of_others_are_not_there
    chroot::a_pipe_in_the_root_stops_nobody
    attacks::no_attack_leaves_its_folder
    attacks::two_commands_lead_each_other_nowhere
    attacks::a_refused_root_is_told
    descriptors::paths_to_files_outside_open_nothing
    chroot::a_cancelled_command_in_a_folder_leaves_nothing
    chroot::a_folders_command_leaves_no_process
    lifetime::a_killed_probe_ends
    started_in_folder::input_reaches_the_command_until_its_end
    started_in_folder::ends_are_told_to_all_who_wait
    started_in_folder::a_handler_gets_its_signal
    started_in_folder::a_signal_without_handler
    started_in_folder::a_killed_container_leaves_nothing
    started_in_folder::a_dropped_container_ends
    started_in_folder::programs_that_cannot_run
    started_in_folder::output_waits_to_be_read
    started_in_folder::files_are_found_while_it_runs
    started_in_folder::processes_are_listed
    joined_in_folder::another_command_sees_the_container
    joined_in_folder::another_command_has_streams_and_an_end
    joined_in_folder::another_command_that_cannot_run
    joined_in_folder::another_command_ends_with_the_container
    joined_in_folder::a_dropped_command_ends_alone
    joined_in_folder::what_is_left_in_the_background_holds_no_output
    joined_in_folder::many_commands_at_once
    joined_in_folder::a_working_folder_is_inside_the_root
    joined_in_folder::kilns_program_is_not_to_be_had
    terminals_in_folder::a_terminal_has_a_size
    terminals_in_folder::a_terminal_passes_what_is_typed
    terminals_in_folder::another_command_has_a_terminal
    started::a_folder_is_not_read_only
    started::in_place_starts_nothing
];
