//! The test cases, one for each promise.

mod attacks;
pub mod chroot;
pub mod descriptors;
pub mod lifetime;
mod mounts;
mod process;
mod roots;

use std::pin::Pin;

use crate::fixture::Fixture;

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
];
