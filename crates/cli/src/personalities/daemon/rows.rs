//! The flags of `dockerd` and `buildkitd`.

use crate::personalities::flags::{Flag, Handling, Verdict};

const NO_NETWORKS: &str = "there are no networks: a RUN has the network of kiln";
const OWN_CONTAINERS: &str = "kiln runs containers in its own way";
const KEPT_OUTPUT: &str = "the output of a container is kept until it is removed";
const OWN_STORE: &str = "kiln keeps images in its own way";
const OWN_ISOLATION: &str =
    "kiln chooses the isolation by what the machine allows; `kiln serve --isolation` pins it";
const SIX_LAYERS: &str =
    "a build moves at most six layers at once in each direction: more make no registry faster";
const NO_SWARM: &str = "there is no swarm";
const RESOLVER: &str = "names are resolved as the machine resolves them";

const ADDRESS: Handling =
    Handling::Honoured("`unix:///path` or `tcp://host:port`; several are allowed");
const CERTIFICATE: Handling = Handling::Honoured("the service's certificate");
const KEY: Handling = Handling::Honoured("the key of the certificate");
const SOCKET_GROUP: Handling = Handling::Honoured("the group that may use Unix sockets");
const VERSION: Handling = Handling::Honoured("prints the version");

const fn none(name: &'static str, example: &'static str, why: &'static str) -> Flag {
    Flag::value(name, example, Handling::NoEffect(why))
}

const fn off(name: &'static str, why: &'static str) -> Flag {
    Flag::switch(name, Handling::NoEffect(why))
}

/// Features that change nothing here.
const OTHER_FEATURES: &[&str] = &[
    "cdi",
    "containerd-migration",
    "containerd-snapshotter",
    "time-namespaces",
    "windows-dns-proxy",
];

fn feature(value: &str) -> Verdict {
    let name = value.split('=').next().unwrap_or_default();
    match name == "buildkit" || OTHER_FEATURES.contains(&name) {
        true => Verdict::Take,
        false => Verdict::Note("kiln has no such feature"),
    }
}

/// The flags of `dockerd`.
pub const DOCKERD: &[Flag] = &[
    Flag::value("host", "tcp://127.0.0.1:2375", ADDRESS).short('H'),
    Flag::switch("tls", Handling::Honoured("speaks TLS on TCP addresses")),
    Flag::switch(
        "tlsverify",
        Handling::Honoured("speaks TLS, and asks each client for a certificate"),
    ),
    Flag::value(
        "tlscacert",
        "ca.pem",
        Handling::Honoured("the authorities of clients' certificates"),
    ),
    Flag::value("tlscert", "cert.pem", CERTIFICATE),
    Flag::value("tlskey", "key.pem", KEY),
    Flag::value("group", "docker", SOCKET_GROUP).short('G'),
    Flag::value(
        "allow-bind",
        "/builds",
        Handling::Honoured("kiln's own: a folder whose content clients may bind into containers"),
    ),
    Flag::value("data-root", "/var/lib/docker", Handling::Honoured("kiln's root"))
        .alias(&["graph"])
        .short('g'),
    Flag::value(
        "registry-mirror",
        "https://mirror.example.com",
        Handling::Honoured("a mirror of Docker Hub"),
    ),
    Flag::value(
        "insecure-registry",
        "registry:5000",
        Handling::Honoured("a registry with plain HTTP or an unknown certificate"),
    ),
    Flag::value(
        "shutdown-timeout",
        "15",
        Handling::Honoured("seconds that running builds have to end"),
    ),
    Flag::value("pidfile", "/run/docker.pid", Handling::Honoured("a file for the process's ID"))
        .short('p'),
    Flag::switch("debug", Handling::Honoured("logs what it does")).short('D'),
    Flag::value("log-level", "info", Handling::Honoured("`debug` logs what it does")).short('l'),
    Flag::switch("version", VERSION).short('v'),
    Flag::value(
        "config-file",
        "/etc/docker/daemon.json",
        Handling::Honoured("a file with options, in the place of `/etc/docker/daemon.json`"),
    ),
    off("validate", "flags are checked when it starts"),
    none("add-runtime", "x=y", OWN_CONTAINERS),
    off("allow-direct-routing", NO_NETWORKS),
    none("allow-nondistributable-artifacts", "x", "layers are pushed as they are"),
    none("api-cors-header", "*", "browsers are no clients"),
    Flag::value(
        "authorization-plugin",
        "x",
        Handling::Refused(
            "there are no plugins: `--tlsverify` lets in clients with certificates only",
        ),
    ),
    none("bip", "172.17.0.1/16", NO_NETWORKS),
    none("bip6", "fd00::1/64", NO_NETWORKS),
    none("bridge", "none", NO_NETWORKS).short('b'),
    none("bridge-accept-fwmark", "1", NO_NETWORKS),
    none("cdi-spec-dir", "/etc/cdi", OWN_CONTAINERS),
    none("cgroup-parent", "/x", "steps stay in kiln's control group"),
    none("cluster-advertise", "x", NO_SWARM),
    none("cluster-store", "x", NO_SWARM),
    none("cluster-store-opt", "a=b", NO_SWARM),
    none("containerd", "/run/containerd.sock", "kiln needs no containerd"),
    none("containerd-namespace", "moby", "kiln needs no containerd"),
    none("containerd-plugins-namespace", "plugins.moby", "kiln needs no containerd"),
    none("cpu-rt-period", "0", OWN_CONTAINERS),
    none("cpu-rt-runtime", "0", OWN_CONTAINERS),
    none("cri-containerd", "true", "kiln needs no containerd"),
    none("default-address-pool", "base=10.0.0.0/8,size=24", NO_NETWORKS),
    none("default-cgroupns-mode", "private", OWN_CONTAINERS),
    none("default-gateway", "10.0.0.1", NO_NETWORKS),
    none("default-gateway-v6", "fd00::1", NO_NETWORKS),
    none("default-ipc-mode", "private", OWN_CONTAINERS),
    none("default-network-opt", "x=y", NO_NETWORKS),
    none("default-runtime", "runc", "kiln has its own"),
    none("default-shm-size", "64M", "`--shm-size` of a build sets it"),
    none("default-ulimit", "nofile=1024", "`--ulimit` of a build sets it"),
    none("dns", "10.0.0.1", RESOLVER),
    none("dns-option", "x", RESOLVER).alias(&["dns-opt"]),
    none("dns-search", "x", RESOLVER),
    none("exec-opt", "native.cgroupdriver=systemd", OWN_CONTAINERS),
    none("exec-root", "/run/docker", "kiln's root has all of its state"),
    off("experimental", "there are no experiments"),
    Flag::value(
        "feature",
        "buildkit=false",
        Handling::Judged(
            "`buildkit=false` has docker's clients build the classic way; accepted otherwise",
            feature,
        ),
    ),
    none("firewall-backend", "iptables", NO_NETWORKS),
    none("fixed-cidr", "10.0.0.0/8", NO_NETWORKS),
    none("fixed-cidr-v6", "fd00::/64", NO_NETWORKS),
    none("host-gateway-ip", "10.0.0.1", NO_NETWORKS),
    Flag::value(
        "http-proxy",
        "http://p:1",
        Handling::Honoured("the proxy of requests to registries"),
    ),
    Flag::value(
        "https-proxy",
        "http://p:1",
        Handling::Honoured("the proxy of requests to registries with TLS"),
    ),
    Flag::value("no-proxy", "x", Handling::Honoured("registries that are reached without a proxy")),
    off("icc", NO_NETWORKS),
    off("init", "a container that wants one says so"),
    none("init-path", "/x", OWN_CONTAINERS),
    none("ip", "0.0.0.0", NO_NETWORKS),
    off("ip-forward", NO_NETWORKS),
    off("ip-forward-no-drop", NO_NETWORKS),
    off("ip-masq", NO_NETWORKS),
    off("ip6tables", NO_NETWORKS),
    off("iptables", NO_NETWORKS),
    off("ipv6", NO_NETWORKS),
    none("label", "a=b", "nothing reads it"),
    off("live-restore", "containers end with the service"),
    none("log-driver", "json-file", KEPT_OUTPUT),
    none("log-format", "text", "logs are text; KILN_LOG chooses what is logged"),
    none("log-opt", "max-size=1m", KEPT_OUTPUT),
    none("max-concurrent-downloads", "3", SIX_LAYERS),
    none("max-concurrent-uploads", "5", SIX_LAYERS),
    none("max-download-attempts", "5", "requests that fail in passing are repeated"),
    none("metrics-addr", "127.0.0.1:9323", "there are no metrics"),
    none("mtu", "1400", NO_NETWORKS),
    none("network-control-plane-mtu", "1400", NO_NETWORKS),
    Flag::switch(
        "no-new-privileges",
        Handling::Noted("programs in containers may gain rights by setuid, as without the flag"),
    ),
    none("node-generic-resource", "x=1", NO_SWARM),
    none("oom-score-adjust", "0", "the machine decides"),
    off("raw-logs", "logs have no colours"),
    off("rootless", OWN_ISOLATION),
    none("seccomp-profile", "x", OWN_ISOLATION),
    off("selinux-enabled", OWN_ISOLATION),
    none("storage-driver", "overlay2", OWN_STORE).short('s'),
    none("storage-opt", "size=1G", OWN_STORE),
    none("swarm-default-advertise-addr", "x", NO_SWARM),
    off("userland-proxy", NO_NETWORKS),
    none("userland-proxy-path", "/x", NO_NETWORKS),
    none("userns-remap", "default", OWN_ISOLATION),
];

/// The flags of `buildkitd`.
pub const BUILDKITD: &[Flag] = &[
    Flag::value("addr", "tcp://127.0.0.1:1234", ADDRESS),
    Flag::value(
        "tlscacert",
        "ca.pem",
        Handling::Honoured("the authorities of clients' certificates, which are asked for then"),
    ),
    Flag::value("tlscert", "cert.pem", CERTIFICATE),
    Flag::value("tlskey", "key.pem", KEY),
    Flag::value("group", "0", SOCKET_GROUP),
    Flag::value("root", "/var/lib/buildkit", Handling::Honoured("kiln's root")),
    Flag::value(
        "config",
        "/dev/null",
        Handling::Honoured(
            "its registries and `insecure-entitlements` count; what else it has is noted",
        ),
    ),
    Flag::switch("debug", Handling::Honoured("logs what it does")),
    Flag::switch("trace", Handling::Honoured("logs what it does")),
    Flag::switch("version", VERSION).short('v'),
    Flag::value(
        "allow-insecure-entitlement",
        "network.host",
        Handling::Honoured("clients may ask for it; `network.host` is never refused"),
    ),
    none("log-format", "text", "logs are text; KILN_LOG chooses what is logged"),
    none("debugaddr", "127.0.0.1:6060", "there is no profiler to talk to"),
    none("otel-socket-path", "/x", "kiln sends no traces"),
    none("cdi-disabled", "true", OWN_CONTAINERS),
    none("cdi-spec-dir", "/etc/cdi", OWN_CONTAINERS),
    none("provenance-env-dir", "/x", "nothing is added to provenance"),
    off("save-cache-debug", "`kiln cache` shows what a cache has"),
    off("rootless", OWN_ISOLATION),
    none("oci-worker", "true", "there is one worker"),
    none("oci-worker-labels", "a=b", "nothing reads them"),
    none("oci-worker-platform", "linux/amd64", "a build names its platforms"),
    none("oci-worker-gc", "true", "old build cache is collected"),
    none(
        "oci-worker-gc-keepstorage",
        "9000",
        "`kiln prune` and the policy of kiln's configuration decide",
    ),
    none("oci-worker-net", "host", NO_NETWORKS),
    none("oci-worker-no-process-sandbox", "true", OWN_ISOLATION),
    none("oci-worker-rootless", "true", OWN_ISOLATION),
    none("oci-worker-snapshotter", "overlayfs", OWN_STORE),
    none("oci-worker-proxy-snapshotter-path", "/x", OWN_STORE),
    none("oci-worker-binary", "runc", "kiln has its own"),
    none("oci-worker-apparmor-profile", "x", OWN_ISOLATION),
    none("oci-worker-selinux", "true", OWN_ISOLATION),
    none("oci-max-parallelism", "4", "kiln chooses by the number of processors"),
    none("oci-cni-config-path", "/x", NO_NETWORKS),
    none("oci-cni-binary-dir", "/x", NO_NETWORKS),
    none("oci-cni-pool-size", "1", NO_NETWORKS),
    none("containerd-worker", "false", "there is one worker"),
    none("containerd-worker-addr", "/x", "kiln needs no containerd"),
    none("containerd-worker-gc", "true", "old build cache is collected"),
    none(
        "containerd-worker-gc-keepstorage",
        "9000",
        "`kiln prune` and the policy of kiln's configuration decide",
    ),
    none("containerd-worker-labels", "a=b", "nothing reads them"),
    none("containerd-worker-namespace", "x", "kiln needs no containerd"),
    none("containerd-worker-net", "host", NO_NETWORKS),
    none("containerd-worker-platform", "linux/amd64", "a build names its platforms"),
    none("containerd-worker-snapshotter", "overlayfs", OWN_STORE),
    none("containerd-cni-config-path", "/x", NO_NETWORKS),
    none("containerd-cni-binary-dir", "/x", NO_NETWORKS),
];
