//! A process in a container: namespaces, mounts, users, devices, network
