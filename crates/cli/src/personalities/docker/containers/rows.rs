//! The commands for containers, with their flags.

use super::{copy, lists, run, state};
use crate::personalities::docker::commands::{DockerCommand, Does};
use crate::personalities::flags::{Flag, Handling, Verdict};

const SERVICE: &str = "needs something that outlives this command: start `kiln serve` and set DOCKER_HOST, and docker's \
    own client does it";
const NO_LIMIT: &str = "no limit is set: a container has those of the job that kiln runs in";
const NO_HEALTH: &str = "kiln checks no health";
const NO_DNS: &str = "names are looked up as on the machine: `--add-host` adds some";
const NO_SHARING: &str = "a container shares no namespaces but the machine's network";
const NO_DEVICE: &str = "a container has no devices of the machine";
const FORMAT: Flag = Flag::value("format", "json", Handling::Honoured("`json`, or a Go template"));
const TIME: Flag = Flag::value(
    "time",
    "10",
    Handling::NoEffect("a container that this command can stop does not run"),
)
.short('t')
.alias(&["timeout"]);

fn restart(text: &str) -> Verdict {
    match text {
        "" | "no" => Verdict::Take,
        _ => Verdict::Refuse("no container starts again by itself"),
    }
}

fn pull(text: &str) -> Verdict {
    match text {
        "missing" | "always" | "never" | "" => Verdict::Take,
        _ => Verdict::Refuse("it is `missing`, `always` or `never`"),
    }
}

const fn honoured(name: &'static str, example: &'static str, about: &'static str) -> Flag {
    Flag::value(name, example, Handling::Honoured(about))
}

const fn noted(name: &'static str, example: &'static str) -> Flag {
    Flag::value(name, example, Handling::Noted(NO_LIMIT))
}

const fn refused(name: &'static str, example: &'static str, why: &'static str) -> Flag {
    Flag::value(name, example, Handling::Refused(why))
}

const DETACH: Flag = Flag::switch(
    "detach",
    Handling::Refused(
        "nothing runs behind this command: with `kiln serve` and DOCKER_HOST docker's own client starts a container there",
    ),
)
.short('d');

/// The flags of `docker run`. `docker create` has them too.
const RUN: &[Flag] = &[
    honoured("name", "web", "its name; the first digits of its ID without one"),
    honoured("env", "K=V", "a variable; a name alone has the value of this command's").short('e'),
    honoured("env-file", "/etc/hostname", "variables, a line each"),
    honoured(
        "volume",
        "/src:/w",
        "`/path:/path`, with `:ro`; one path alone is a folder of the container",
    )
    .short('v'),
    honoured(
        "mount",
        "type=tmpfs,dst=/t",
        "`type=bind|tmpfs|volume,src=…,dst=…,ro`; a volume has no name",
    ),
    honoured("workdir", "/w", "the folder in which the command starts").short('w'),
    honoured("user", "1000:1000", "user and group, by name or number").short('u'),
    Flag::switch("interactive", Handling::Honoured("standard input is the container's")).short('i'),
    Flag::switch("tty", Handling::Honoured("the command has a terminal")).short('t'),
    Flag::switch("rm", Handling::Honoured("it is removed when it ends")),
    honoured("entrypoint", "sh", "the program instead of the image's"),
    honoured("hostname", "box", "the name of the machine in the container").short('h'),
    honoured("label", "a=b", "a label").short('l'),
    honoured("network", "host", "the machine's network, or `none`").alias(&["net"]),
    honoured("publish", "80:80", "a port under its own number, since the network is the machine's")
        .short('p'),
    honoured("expose", "80", "a port that the command listens on"),
    honoured("add-host", "db:127.0.0.1", "a line of /etc/hosts"),
    honoured("tmpfs", "/t:size=1m", "a folder in memory"),
    honoured("ulimit", "nofile=1024", "a limit of processes"),
    honoured("shm-size", "64m", "bytes of /dev/shm"),
    honoured("platform", "linux/amd64", "the platform of the image"),
    honoured("stop-signal", "SIGTERM", "the signal that stops it"),
    honoured("stop-timeout", "10", "seconds between that signal and SIGKILL"),
    honoured("cidfile", "/tmp/cid", "a file for its ID"),
    honoured(
        "cap-add",
        "CHOWN",
        "one that a container has anyway; others are refused: `--privileged` has all",
    ),
    honoured(
        "security-opt",
        "seccomp=unconfined",
        "`label`, `apparmor` and `seccomp=unconfined` change nothing; others are refused",
    ),
    Flag::value("pull", "missing", Handling::Judged("`missing`, `always` or `never`", pull)),
    Flag::value("restart", "no", Handling::Judged("`no`; others are refused", restart)),
    Flag::switch("read-only", Handling::Honoured("the root cannot be written to")),
    Flag::switch("init", Handling::Honoured("a small init is the first process")),
    Flag::switch("privileged", Handling::Honoured("all rights that kiln has")),
    Flag::switch("quiet", Handling::Honoured("says nothing of pulling")).short('q'),
    Flag::switch(
        "sig-proxy",
        Handling::Honoured("signals are passed on to the command; `=false` leaves it alone"),
    ),
    DETACH,
    Flag::value(
        "attach",
        "stdout",
        Handling::NoEffect("output and errors are this command's, and the input is with `-i`"),
    )
    .short('a'),
    Flag::value("detach-keys", "ctrl-p", Handling::NoEffect("nothing is detached")),
    Flag::value(
        "log-driver",
        "none",
        Handling::NoEffect("output is kept until the container is removed"),
    ),
    Flag::value("log-opt", "max-size=1m", Handling::NoEffect("a log has 64 MiB at most")),
    Flag::value(
        "cgroup-parent",
        "x",
        Handling::NoEffect("it stays in the control group of the job"),
    ),
    Flag::switch("no-healthcheck", Handling::NoEffect(NO_HEALTH)),
    Flag::switch("disable-content-trust", Handling::NoEffect("nothing is signed")),
    Flag::value("health-cmd", "true", Handling::Noted(NO_HEALTH)),
    Flag::value("health-interval", "1s", Handling::Noted(NO_HEALTH)),
    Flag::value("health-retries", "1", Handling::Noted(NO_HEALTH)),
    Flag::value("health-start-period", "1s", Handling::Noted(NO_HEALTH)),
    Flag::value("health-timeout", "1s", Handling::Noted(NO_HEALTH)),
    noted("memory", "1g").short('m'),
    noted("memory-swap", "1g"),
    noted("memory-reservation", "1g"),
    noted("cpus", "2"),
    noted("cpu-shares", "2").short('c'),
    noted("cpu-period", "2"),
    noted("cpu-quota", "2"),
    noted("cpuset-cpus", "0"),
    noted("pids-limit", "10"),
    noted("oom-score-adj", "1"),
    noted("blkio-weight", "10"),
    refused("cap-drop", "ALL", "rights are the default ones or, with `--privileged`, all"),
    refused("device", "/dev/kvm", NO_DEVICE),
    refused("gpus", "all", NO_DEVICE),
    refused("dns", "1.1.1.1", NO_DNS),
    refused("dns-search", "x", NO_DNS),
    refused("dns-option", "x", NO_DNS),
    refused(
        "group-add",
        "wheel",
        "groups are those of the image's /etc/group, or the one in `--user`",
    ),
    refused("ip", "10.0.0.2", "the network is the machine's"),
    refused("ipc", "host", NO_SHARING),
    refused("pid", "host", NO_SHARING),
    refused("uts", "host", NO_SHARING),
    refused("userns", "x", "users are mapped as for RUN"),
    refused("link", "db", "the network is the machine's: others are reached at 127.0.0.1"),
    refused("network-alias", "db", "the network is the machine's"),
    refused("runtime", "x", "there is no other runtime"),
    refused("sysctl", "a=b", "kernel settings are the machine's"),
    refused("volumes-from", "x", "containers share no volumes: bind a folder in both"),
    refused("volume-driver", "x", "there are no volumes with names"),
    refused("label-file", "/etc/hostname", "give labels by `--label`"),
    Flag::switch(
        "publish-all",
        Handling::NoEffect("the network is the machine's, and ports are their own"),
    )
    .short('P'),
];

const fn refuse(
    path: &'static str,
    aliases: &'static [&'static str],
    why: &'static str,
) -> DockerCommand {
    DockerCommand { path, aliases, does: Does::Refuse(why), operands: "", flags: &[] }
}

/// The commands.
pub const CONTAINER_COMMANDS: &[DockerCommand] = &[
    DockerCommand {
        path: "run",
        aliases: &["container run"],
        does: Does::Command("Runs a command in a container of an image, to its end", run::run),
        operands: "IMAGE [COMMAND…]",
        flags: RUN,
    },
    DockerCommand {
        path: "create",
        aliases: &["container create"],
        does: Does::Command("Makes a container of an image, and does not start it", run::create),
        operands: "IMAGE [COMMAND…]",
        flags: RUN,
    },
    DockerCommand {
        path: "start",
        aliases: &["container start"],
        does: Does::Own("Runs a container that was made before, to its end", run::start),
        operands: "CONTAINER",
        flags: &[
            Flag::switch("attach", Handling::Honoured("needed: its output is this command's"))
                .short('a'),
            Flag::switch("interactive", Handling::Honoured("standard input is the container's"))
                .short('i'),
            Flag::switch(
                "sig-proxy",
                Handling::Honoured(
                    "signals are passed on to the command; `=false` leaves it alone",
                ),
            ),
            Flag::value("detach-keys", "ctrl-p", Handling::NoEffect("nothing is detached")),
        ],
    },
    DockerCommand {
        path: "cp",
        aliases: &["container cp"],
        does: Does::Own("Copies files between a container and this machine", copy::copy),
        operands: "CONTAINER:PATH PATH|-, or PATH|- CONTAINER:PATH",
        flags: &[
            Flag::switch("archive", Handling::Honoured("owners are kept")).short('a'),
            Flag::switch("follow-link", Handling::Honoured("a link is followed")).short('L'),
            Flag::switch("quiet", Handling::NoEffect("nothing is said")).short('q'),
        ],
    },
    DockerCommand {
        path: "rm",
        aliases: &["container rm", "container remove"],
        does: Does::Own("Removes containers", state::remove),
        operands: "CONTAINER…",
        flags: &[
            Flag::switch("force", Handling::Honoured("one that is not there is no error"))
                .short('f'),
            Flag::switch("volumes", Handling::NoEffect("its folders go with it")).short('v'),
            Flag::switch("link", Handling::Refused("there are no links")).short('l'),
        ],
    },
    DockerCommand {
        path: "ps",
        aliases: &["container ls", "container list", "container ps"],
        does: Does::Own("Lists containers", lists::list),
        operands: "",
        flags: &[
            Flag::switch("all", Handling::Honoured("those that do not run too")).short('a'),
            Flag::switch("quiet", Handling::Honoured("IDs alone")).short('q'),
            Flag::switch("no-trunc", Handling::Honoured("whole IDs and commands")),
            Flag::switch("size", Handling::Honoured("their sizes")).short('s'),
            Flag::switch("latest", Handling::Honoured("the last one that was made")).short('l'),
            Flag::value("last", "5", Handling::Honoured("the last ones that were made")).short('n'),
            Flag::value(
                "filter",
                "name=web",
                Handling::Honoured("`name=`, `id=`, `label=`, `status=`, `ancestor=`"),
            )
            .short('f'),
            FORMAT,
        ],
    },
    DockerCommand {
        path: "container inspect",
        aliases: &[],
        does: Does::Own("Shows containers as JSON", lists::inspect),
        operands: "CONTAINER…",
        flags: &[
            FORMAT.short('f'),
            Flag::switch("size", Handling::Honoured("their sizes")).short('s'),
        ],
    },
    DockerCommand {
        path: "logs",
        aliases: &["container logs"],
        does: Does::Own("Shows the output of a container", state::logs),
        operands: "CONTAINER",
        flags: &[
            Flag::switch(
                "follow",
                Handling::Honoured("of a container that has ended, all is there"),
            )
            .short('f'),
            Flag::switch("timestamps", Handling::Honoured("the time before each line")).short('t'),
            Flag::value("tail", "10", Handling::Honoured("the last lines; `all` is all"))
                .short('n'),
            Flag::value(
                "since",
                "2026-01-01T00:00:00Z",
                Handling::Honoured("lines from a time on: RFC 3339, or `10m` ago"),
            ),
            Flag::value(
                "until",
                "2026-01-01T00:00:00Z",
                Handling::Honoured("lines up to a time: RFC 3339, or `10m` ago"),
            ),
            Flag::switch("details", Handling::NoEffect("there are none")),
        ],
    },
    DockerCommand {
        path: "wait",
        aliases: &["container wait"],
        does: Does::Own("Prints the exit codes of containers", state::wait),
        operands: "CONTAINER…",
        flags: &[],
    },
    DockerCommand {
        path: "stop",
        aliases: &["container stop"],
        does: Does::Own("Does nothing to containers that have ended", state::stop),
        operands: "CONTAINER…",
        flags: &[
            TIME,
            Flag::value(
                "signal",
                "SIGTERM",
                Handling::NoEffect("a container that this command can stop does not run"),
            )
            .short('s'),
        ],
    },
    DockerCommand {
        path: "kill",
        aliases: &["container kill"],
        does: Does::Own("Says that containers do not run", state::kill),
        operands: "CONTAINER…",
        flags: &[Flag::value("signal", "SIGKILL", Handling::Honoured("the signal")).short('s')],
    },
    DockerCommand {
        path: "rename",
        aliases: &["container rename"],
        does: Does::Own("Gives a container another name", state::rename),
        operands: "CONTAINER NAME",
        flags: &[],
    },
    DockerCommand {
        path: "container prune",
        aliases: &[],
        does: Does::Own("Removes containers that do not run", state::prune),
        operands: "",
        flags: &[
            Flag::switch("force", Handling::NoEffect("nothing is asked")).short('f'),
            Flag::value("filter", "until=24h", Handling::Honoured("`until=`, `label=`, `label!=`")),
        ],
    },
    refuse("exec", &["container exec"], SERVICE),
    refuse("attach", &["container attach"], SERVICE),
    refuse("restart", &["container restart"], SERVICE),
    refuse("top", &["container top"], SERVICE),
    refuse(
        "stats",
        &["container stats"],
        "is not supported: a container is counted with the job that kiln runs in",
    ),
    refuse(
        "port",
        &["container port"],
        "is not supported: the network is the machine's, and ports are their own",
    ),
    refuse("pause", &["container pause"], "is not supported: a container cannot be paused"),
    refuse("unpause", &["container unpause"], "is not supported: a container cannot be paused"),
    refuse("update", &["container update"], "is not supported: no limit is set"),
    refuse("diff", &["container diff"], SERVICE),
    refuse("commit", &["container commit"], "is not supported: put what it does into a Dockerfile"),
    refuse(
        "export",
        &["container export"],
        "is not supported here: `docker cp CONTAINER:/ -` writes its files as an archive",
    ),
];
