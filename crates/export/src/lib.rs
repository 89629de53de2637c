//! Outputs as something a user holds: registry, OCI layout, docker archive, folder, tar
