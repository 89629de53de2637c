//! Endpoints of networks.

use super::endpoint::{Action, Endpoint, answer, honoured, no_effect, refuse, run};

const NO_NETWORKS: &str = "there are no other networks than `host`, `bridge` and `none`: a container has the machine's, or none";

pub(super) const NETWORKS: &[Endpoint] = &[
    run(
        "GET",
        "/networks",
        Action::ListNetworks,
        "`host` and `bridge`, which are the machine's network, and `none`",
        &[honoured("filters", "`name`, `id`, `driver`, `scope`, `type`, `label` and `dangling`")],
    ),
    answer(
        "POST",
        "/networks/prune",
        "removes nothing: the networks stay",
        r#"{"NetworksDeleted":null}"#,
        &[no_effect("filters", "there are none to remove")],
    ),
    refuse("POST", "/networks/create", NO_NETWORKS),
    run(
        "GET",
        "/networks/{id}",
        Action::InspectNetwork,
        "a network, with the containers that run in it",
        &[
            no_effect("verbose", "there are no services"),
            no_effect("scope", "all networks are local"),
        ],
    ),
    refuse("DELETE", "/networks/{id}", "the networks stay"),
    refuse("POST", "/networks/{id}/connect", NO_NETWORKS),
    refuse("POST", "/networks/{id}/disconnect", NO_NETWORKS),
];
