//! The keys of a `daemon.json`.

/// The shape of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// true or false.
    Switch,
    /// A text.
    Text,
    /// A number.
    Number,
    /// A number, or a text with a unit.
    Size,
    /// A list of texts, each a value of the flag.
    Texts,
    /// A list of objects, each a value of the flag.
    Objects,
    /// An object, each of whose names is a value of the flag.
    Pairs,
    /// An object of truth values.
    Features,
    /// An object with the proxies.
    Proxies,
    /// The object `builder`.
    Builder,
}

impl Shape {
    /// The shape in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Switch => "truth value",
            Self::Text => "text",
            Self::Number => "number",
            Self::Size => "size",
            Self::Texts => "list of texts",
            Self::Objects => "list of objects",
            Self::Pairs | Self::Builder => "object",
            Self::Features => "object of truth values",
            Self::Proxies => "object with http-proxy, https-proxy and no-proxy",
        }
    }

    /// A value of the shape.
    #[cfg(test)]
    pub fn example(self) -> &'static str {
        match self {
            Self::Switch => "true",
            Self::Text => "\"x\"",
            Self::Number => "7",
            Self::Size => "\"7m\"",
            Self::Texts => "[\"a=b\"]",
            Self::Objects => "[{\"base\": \"10.0.0.0/8\", \"size\": 24}]",
            Self::Pairs => "{\"a\": \"b\"}",
            Self::Features => "{\"buildkit\": true}",
            Self::Proxies => "{\"no-proxy\": \"x\"}",
            Self::Builder => "{}",
        }
    }
}

/// A key, and the flag of dockerd that it stands for.
#[derive(Clone, Copy, Debug)]
pub struct FileKey {
    /// The key.
    pub name: &'static str,
    /// The flag's name; empty for `proxies` and `builder`.
    pub flag: &'static str,
    /// The shape of its value.
    pub shape: Shape,
}

/// The flags that `proxies` stands for.
pub const PROXIES: &[&str] = &["http-proxy", "https-proxy", "no-proxy"];

impl FileKey {
    /// The flags that it stands for.
    pub fn flags(&self) -> &[&'static str] {
        match self.shape {
            Shape::Proxies => PROXIES,
            Shape::Builder => &[],
            _ => std::slice::from_ref(&self.flag),
        }
    }
}

const fn switch(name: &'static str) -> FileKey {
    FileKey { name, flag: name, shape: Shape::Switch }
}

const fn text(name: &'static str) -> FileKey {
    FileKey { name, flag: name, shape: Shape::Text }
}

const fn number(name: &'static str) -> FileKey {
    FileKey { name, flag: name, shape: Shape::Number }
}

const fn texts(name: &'static str, flag: &'static str) -> FileKey {
    FileKey { name, flag, shape: Shape::Texts }
}

const fn pairs(name: &'static str, flag: &'static str) -> FileKey {
    FileKey { name, flag, shape: Shape::Pairs }
}

/// All keys. What becomes of one is what becomes of its flag.
pub const DAEMON_JSON: &[FileKey] = &[
    texts("hosts", "host"),
    switch("tls"),
    switch("tlsverify"),
    text("tlscacert"),
    text("tlscert"),
    text("tlskey"),
    text("group"),
    text("data-root"),
    FileKey { name: "graph", flag: "data-root", shape: Shape::Text },
    texts("registry-mirrors", "registry-mirror"),
    texts("insecure-registries", "insecure-registry"),
    number("shutdown-timeout"),
    text("pidfile"),
    switch("debug"),
    text("log-level"),
    FileKey { name: "features", flag: "feature", shape: Shape::Features },
    FileKey { name: "builder", flag: "", shape: Shape::Builder },
    switch("allow-direct-routing"),
    texts("allow-nondistributable-artifacts", "allow-nondistributable-artifacts"),
    text("api-cors-header"),
    texts("authorization-plugins", "authorization-plugin"),
    text("bip"),
    text("bip6"),
    text("bridge"),
    text("bridge-accept-fwmark"),
    texts("cdi-spec-dirs", "cdi-spec-dir"),
    text("cgroup-parent"),
    text("cluster-advertise"),
    text("cluster-store"),
    pairs("cluster-store-opts", "cluster-store-opt"),
    text("containerd"),
    text("containerd-namespace"),
    FileKey {
        name: "containerd-plugin-namespace",
        flag: "containerd-plugins-namespace",
        shape: Shape::Text,
    },
    number("cpu-rt-period"),
    number("cpu-rt-runtime"),
    switch("cri-containerd"),
    FileKey { name: "default-address-pools", flag: "default-address-pool", shape: Shape::Objects },
    text("default-cgroupns-mode"),
    text("default-gateway"),
    text("default-gateway-v6"),
    text("default-ipc-mode"),
    pairs("default-network-opts", "default-network-opt"),
    text("default-runtime"),
    FileKey { name: "default-shm-size", flag: "default-shm-size", shape: Shape::Size },
    pairs("default-ulimits", "default-ulimit"),
    texts("dns", "dns"),
    texts("dns-opts", "dns-option"),
    texts("dns-search", "dns-search"),
    texts("exec-opts", "exec-opt"),
    text("exec-root"),
    switch("experimental"),
    text("firewall-backend"),
    text("fixed-cidr"),
    text("fixed-cidr-v6"),
    text("host-gateway-ip"),
    texts("host-gateway-ips", "host-gateway-ip"),
    FileKey { name: "proxies", flag: "", shape: Shape::Proxies },
    switch("icc"),
    switch("init"),
    text("init-path"),
    text("ip"),
    switch("ip-forward"),
    switch("ip-forward-no-drop"),
    switch("ip-masq"),
    switch("ip6tables"),
    switch("iptables"),
    switch("ipv6"),
    texts("labels", "label"),
    switch("live-restore"),
    text("log-driver"),
    text("log-format"),
    pairs("log-opts", "log-opt"),
    number("max-concurrent-downloads"),
    number("max-concurrent-uploads"),
    number("max-download-attempts"),
    text("metrics-addr"),
    number("mtu"),
    number("network-control-plane-mtu"),
    switch("no-new-privileges"),
    texts("node-generic-resources", "node-generic-resource"),
    number("oom-score-adjust"),
    switch("raw-logs"),
    switch("rootless"),
    pairs("runtimes", "add-runtime"),
    text("seccomp-profile"),
    switch("selinux-enabled"),
    text("storage-driver"),
    texts("storage-opts", "storage-opt"),
    text("swarm-default-advertise-addr"),
    switch("userland-proxy"),
    text("userland-proxy-path"),
    text("userns-remap"),
];
