//! The commands of docker's command line: one row each.

use super::containers::{CONTAINER_COMMANDS, inspect_any};
use super::{archives, builders, engine, imagetools, lists, prune};
use crate::personalities::command_context::CommandContext;
use crate::personalities::flags::{self, Handling, ParsedFlags, Verdict};
use crate::render::Report;

/// A command.
pub struct DockerCommand {
    /// Its words after `docker`.
    pub path: &'static str,
    /// Its other spellings.
    pub aliases: &'static [&'static str],
    /// Its effect here.
    pub does: Does,
    /// Its operands, for `--help`.
    pub operands: &'static str,
    /// Its flags, unless kiln has a command of its own for it.
    pub flags: &'static [flags::Flag],
}

/// Does what a command is for.
pub type Perform = fn(&ParsedFlags, &CommandContext) -> Result<(), Report>;

/// The effect of a command.
#[derive(Clone, Copy)]
pub enum Does {
    /// The same as kiln's own command of this name, with the same flags.
    Same(&'static str),
    /// Builds, with the flags of `kiln build`.
    Build,
    /// Builds the targets of a definition.
    Bake,
    /// An effect of its own: its description and its function.
    Own(&'static str, Perform),
    /// The same, with flags that end at the first operand: the rest is a command with flags of its own.
    Command(&'static str, Perform),
    /// Nothing: the text is the rest of a sentence that begins with the command.
    Refuse(&'static str),
}

const fn same(
    path: &'static str,
    aliases: &'static [&'static str],
    own: &'static str,
) -> DockerCommand {
    DockerCommand { path, aliases, does: Does::Same(own), operands: "", flags: &[] }
}

const fn refuse(path: &'static str, why: &'static str) -> DockerCommand {
    DockerCommand { path, aliases: &[], does: Does::Refuse(why), operands: "", flags: &[] }
}

const NO_ENGINE: &str = "needs an engine, which is not there: kiln builds images, moves them, and runs single containers";

const FORMAT: flags::Flag =
    flags::Flag::value("format", "json", Handling::Honoured("`json`, or a Go template")).short('f');
const NO_BUILDER: flags::Flag = flags::Flag::value(
    "builder",
    "mine",
    Handling::NoEffect("builds run in this process, whichever builder"),
);
const NO_WAIT: flags::Flag =
    flags::Flag::value("timeout", "20s", Handling::NoEffect("there is nothing to wait for"));
const FORCE: flags::Flag =
    flags::Flag::switch("force", Handling::Honoured("does not ask")).short('f');
const FILTER: flags::Flag = flags::Flag::value(
    "filter",
    "until=24h",
    Handling::Honoured("only what fits: `until=24h` or a time, `label=a=b`, `label!=a`"),
);

/// `prune` of objects that kiln does not have. Pipelines clean up before they build.
const fn none_to_prune(path: &'static str, about: &'static str) -> DockerCommand {
    const FLAGS: &[flags::Flag] = &[
        flags::Flag::switch("force", Handling::NoEffect("nothing is asked")).short('f'),
        flags::Flag::switch("all", Handling::NoEffect("there are none")).short('a'),
        flags::Flag::value("filter", "until=24h", Handling::NoEffect("there are none")),
    ];
    DockerCommand {
        path,
        aliases: &[],
        does: Does::Own(about, prune::nothing),
        operands: "",
        flags: FLAGS,
    }
}

fn driver(text: &str) -> Verdict {
    match text {
        "" | "docker" | "docker-container" => Verdict::Take,
        "kubernetes" => Verdict::Refuse(
            "builds run in this process and not in pods: leave it out, and run this job in the cluster",
        ),
        _ => Verdict::Refuse("builds run in this process: leave it out"),
    }
}

/// All commands.
pub fn commands() -> impl Iterator<Item = &'static DockerCommand> {
    COMMANDS.iter().chain(CONTAINER_COMMANDS)
}

const COMMANDS: &[DockerCommand] = &[
    DockerCommand { path: "build", aliases: &["image build", "builder build", "builder b"], does: Does::Build, operands: "PATH | URL | -", flags: &[] },
    DockerCommand { path: "buildx build", aliases: &["buildx b"], does: Does::Build, operands: "PATH | URL | -", flags: &[] },
    DockerCommand {
        path: "buildx bake",
        aliases: &["buildx f"],
        does: Does::Bake,
        operands: "[TARGET...]",
        flags: &[],
    },
    same("login", &[], "login"),
    same("logout", &[], "logout"),
    same("push", &["image push"], "push"),
    same("pull", &["image pull"], "pull"),
    same("tag", &["image tag"], "tag"),
    same("images", &["image ls", "image list"], "images"),
    same("rmi", &["image rm", "image remove"], "rmi"),
    same("image inspect", &[], "inspect"),
    DockerCommand {
        path: "inspect",
        aliases: &[],
        does: Does::Own("Shows containers, or images where there is no container of the name, as JSON", inspect_any),
        operands: "NAME...",
        flags: &[
            FORMAT,
            flags::Flag::value("type", "image", Handling::Honoured("`container` or `image`")),
            flags::Flag::switch("size", Handling::Honoured("sizes of containers")).short('s'),
        ],
    },
    same("history", &["image history"], "history"),
    DockerCommand {
        path: "save",
        aliases: &["image save"],
        does: Does::Own("Writes images to an archive that `docker load` reads", archives::save),
        operands: "IMAGE...",
        flags: &[
            flags::Flag::value("output", "a.tar", Handling::Honoured("a file instead of standard output")).short('o'),
            flags::Flag::value("platform", "linux/amd64", Handling::Refused("an image here has one platform; leave it out")),
        ],
    },
    DockerCommand {
        path: "load",
        aliases: &["image load"],
        does: Does::Own("Reads images from an archive of `docker save` or in the OCI layout", archives::load),
        operands: "",
        flags: &[
            flags::Flag::value("input", "a.tar", Handling::Honoured("a file instead of standard input")).short('i'),
            flags::Flag::switch("quiet", Handling::Honoured("prints nothing but the names")).short('q'),
            flags::Flag::value("platform", "linux/amd64", Handling::Refused("the image for this machine is taken; leave it out")),
        ],
    },
    DockerCommand {
        path: "image prune",
        aliases: &[],
        does: Does::Own("Removes images that have no name", prune::images),
        operands: "",
        flags: &[
            flags::Flag::switch("all", Handling::Honoured("removes images with names too")).short('a'),
            FORCE,
            FILTER,
        ],
    },
    none_to_prune("volume prune", "Does nothing: there are no volumes"),
    none_to_prune("network prune", "Does nothing: there are no networks"),
    same("builder prune", &["buildx prune"], "prune"),
    same("buildx du", &["builder du"], "du"),
    DockerCommand {
        path: "system prune",
        aliases: &[],
        does: Does::Own("Removes images without names, and build cache that is not needed", prune::system),
        operands: "",
        flags: &[
            flags::Flag::switch("all", Handling::Honoured("removes images with names and cache mounts too")).short('a'),
            FORCE,
            flags::Flag::switch("volumes", Handling::NoEffect("there are no volumes")),
            FILTER,
        ],
    },
    DockerCommand {
        path: "system df",
        aliases: &[],
        does: Does::Own("Shows what takes how much disk", engine::disk),
        operands: "",
        flags: &[
            flags::Flag::value("format", "json", Handling::Honoured("`json`, or a Go template, for each line")),
            flags::Flag::switch("verbose", Handling::Refused("`docker buildx du --verbose` has every entry")).short('v'),
        ],
    },
    DockerCommand {
        path: "info",
        aliases: &["system info"],
        does: Does::Own("Says what is here instead of an engine", engine::info),
        operands: "",
        flags: &[FORMAT],
    },
    DockerCommand {
        path: "version",
        aliases: &[],
        does: Does::Own("Shows versions", engine::version),
        operands: "",
        flags: &[FORMAT],
    },
    DockerCommand {
        path: "buildx version",
        aliases: &[],
        does: Does::Own("Shows buildx' version", builders::version),
        operands: "",
        flags: &[],
    },
    DockerCommand {
        path: "buildx create",
        aliases: &[],
        does: Does::Own("Prints a builder's name: builds run in this process", builders::create),
        operands: "[CONTEXT]",
        flags: &[
            flags::Flag::value("name", "mine", Handling::Honoured("is printed")),
            flags::Flag::value("driver", "docker-container", Handling::Judged("docker-container: accepted, builds run in this process; kubernetes, remote: refused", driver)),
            flags::Flag::switch("append", Handling::NoEffect("there are no nodes")),
            flags::Flag::switch("bootstrap", Handling::NoEffect("there is nothing to start")),
            flags::Flag::value("buildkitd-config", "b.toml", Handling::Honoured("its registries (mirrors, http, insecure, ca, keypair, tlsconfigdir) count in later builds, whichever builder; what else it has is for a daemon, which is said")).alias(&["config"]),
            flags::Flag::value("buildkitd-flags", "--debug", Handling::NoEffect("there is no daemon; entitlements are `--allow` of a build")),
            flags::Flag::value("driver-opt", "network=host", Handling::NoEffect("there is no container with a builder")),
            flags::Flag::switch("leave", Handling::NoEffect("there are no nodes")),
            flags::Flag::value("node", "n", Handling::NoEffect("there are no nodes")),
            flags::Flag::value("platform", "linux/amd64", Handling::NoEffect("a build says its own")),
            flags::Flag::value("timeout", "20s", Handling::NoEffect("there is nothing to wait for")),
            flags::Flag::switch("use", Handling::NoEffect("builds run in this process anyway")),
            NO_BUILDER,
        ],
    },
    DockerCommand {
        path: "buildx imagetools create",
        aliases: &[],
        does: Does::Own("Makes an index of images that registries have", imagetools::create),
        operands: "SOURCE...",
        flags: &[
            flags::Flag::value("tag", "app:1", Handling::Honoured("its names; needed")).short('t'),
            flags::Flag::switch("append", Handling::Honoured("adds to what the first name has")),
            flags::Flag::switch("dry-run", Handling::Honoured("prints the index, and pushes nothing")),
            flags::Flag::value("file", "d.json", Handling::Honoured("a descriptor of an image, in the repository of the name")).short('f'),
            flags::Flag::value("annotation", "index:a=b", Handling::Honoured("`index:KEY=VALUE`, or `manifest-descriptor[PLATFORM]:KEY=VALUE`")),
            flags::Flag::value("metadata-file", "m.json", Handling::Honoured("writes the index' digest and name to a file, as JSON")),
            flags::Flag::value("platform", "linux/amd64", Handling::Honoured("only images for these, and what attests to them")).short('p'),
            flags::Flag::switch("prefer-index", Handling::Honoured("`=false`: one image alone is copied as it is, and no index is made")),
            flags::Flag::value("progress", "plain", Handling::NoEffect("progress is a line for each name")),
            NO_BUILDER,
        ],
    },
    DockerCommand {
        path: "buildx imagetools inspect",
        aliases: &[],
        does: Does::Own("Shows what a registry has under a name", imagetools::inspect),
        operands: "NAME",
        flags: &[
            flags::Flag::switch("raw", Handling::Honoured("prints the document itself")),
            flags::Flag::value("format", "json", Handling::Honoured("`json`, or a Go template over `.Name`, `.Manifest`, `.Image`, `.Provenance` and `.SBOM`")),
            NO_BUILDER,
        ],
    },
    DockerCommand {
        path: "manifest inspect",
        aliases: &[],
        does: Does::Own("Prints a manifest or index as its registry has it", lists::inspect_manifest),
        operands: "[LIST] NAME",
        flags: &[
            flags::Flag::switch("insecure", Handling::Honoured("plain HTTP and unknown certificates are accepted")),
            flags::Flag::switch("verbose", Handling::Honoured("names, descriptors and manifests of all images")).short('v'),
        ],
    },
    DockerCommand {
        path: "manifest create",
        aliases: &[],
        does: Does::Own("Begins a list of images, which `manifest push` pushes", lists::create),
        operands: "LIST NAME...",
        flags: &[
            flags::Flag::switch("amend", Handling::Honoured("goes on with a list that is there")).short('a'),
            flags::Flag::switch("insecure", Handling::Honoured("plain HTTP and unknown certificates are accepted")),
        ],
    },
    DockerCommand {
        path: "manifest annotate",
        aliases: &[],
        does: Does::Own("Says for which platform an image of a list is", lists::annotate),
        operands: "LIST NAME",
        flags: &[
            flags::Flag::value("arch", "arm64", Handling::Honoured("its architecture")),
            flags::Flag::value("os", "linux", Handling::Honoured("its system")),
            flags::Flag::value("variant", "v8", Handling::Honoured("its variant")),
            flags::Flag::value("os-version", "1", Handling::Refused("it is for Windows, and not there")),
            flags::Flag::value("os-features", "a", Handling::Refused("it is for Windows, and not there")),
        ],
    },
    DockerCommand {
        path: "manifest push",
        aliases: &[],
        does: Does::Own("Pushes a list, with the images that its repository lacks", lists::push),
        operands: "LIST",
        flags: &[
            flags::Flag::switch("purge", Handling::Honoured("forgets the list")).short('p'),
            flags::Flag::switch("insecure", Handling::Honoured("plain HTTP and unknown certificates are accepted")),
        ],
    },
    DockerCommand {
        path: "manifest rm",
        aliases: &[],
        does: Does::Own("Forgets lists", lists::forget),
        operands: "LIST...",
        flags: &[],
    },
    DockerCommand {
        path: "buildx use",
        aliases: &[],
        does: Does::Own("Does nothing: builds run in this process, whichever builder", builders::nothing),
        operands: "NAME",
        flags: &[
            flags::Flag::switch("default", Handling::NoEffect("it changes nothing")),
            flags::Flag::switch("global", Handling::NoEffect("it changes nothing")),
            NO_BUILDER,
        ],
    },
    DockerCommand {
        path: "buildx ls",
        aliases: &[],
        does: Does::Own("Lists the one builder: this process", builders::list),
        operands: "",
        flags: &[
            flags::Flag::value("format", "json", Handling::Honoured("`json`, or a Go template")),
            flags::Flag::switch("no-trunc", Handling::NoEffect("nothing is cut")),
            NO_WAIT,
            NO_BUILDER,
        ],
    },
    DockerCommand {
        path: "buildx inspect",
        aliases: &[],
        does: Does::Own("Shows the one builder: this process", builders::inspect),
        operands: "[NAME]",
        flags: &[
            flags::Flag::switch("bootstrap", Handling::NoEffect("there is nothing to start")),
            NO_WAIT,
            NO_BUILDER,
        ],
    },
    DockerCommand {
        path: "buildx stop",
        aliases: &[],
        does: Does::Own("Does nothing: there is no builder to stop", builders::nothing),
        operands: "[NAME...]",
        flags: &[NO_WAIT, NO_BUILDER],
    },
    DockerCommand {
        path: "buildx rm",
        aliases: &[],
        does: Does::Own("Forgets the `--buildkitd-config` of `buildx create`", builders::remove),
        operands: "[NAME...]",
        flags: &[
            flags::Flag::switch("all-inactive", Handling::NoEffect("it changes nothing")),
            flags::Flag::switch("force", Handling::NoEffect("it changes nothing")).short('f'),
            flags::Flag::switch("keep-daemon", Handling::NoEffect("it changes nothing")),
            flags::Flag::switch("keep-state", Handling::NoEffect("state stays until `docker buildx prune`")),
            NO_WAIT,
            NO_BUILDER,
        ],
    },
    DockerCommand {
        path: "buildx install",
        aliases: &["buildx uninstall"],
        does: Does::Own("Does nothing: `docker build` is `docker buildx build` already", builders::nothing),
        operands: "",
        flags: &[],
    },
    DockerCommand {
        path: "context",
        aliases: &["context ls", "context list"],
        does: Does::Own("Lists the one context: this process", builders::contexts),
        operands: "",
        flags: &[
            flags::Flag::value("format", "json", Handling::Honoured("`json`, or a Go template")),
            flags::Flag::switch("quiet", Handling::Honoured("prints the name alone")).short('q'),
        ],
    },
    DockerCommand {
        path: "context show",
        aliases: &[],
        does: Does::Own("Prints the one context's name", builders::context_name),
        operands: "",
        flags: &[],
    },
    DockerCommand {
        path: "context inspect",
        aliases: &[],
        does: Does::Own("Shows the one context: this process", builders::inspect_context),
        operands: "[NAME...]",
        flags: &[FORMAT],
    },
    DockerCommand {
        path: "context create",
        aliases: &["context update", "context import"],
        does: Does::Own("Prints the name: builds run in this process, whatever the context", builders::name_context),
        operands: "NAME",
        flags: &[
            flags::Flag::value("description", "x", Handling::NoEffect("it changes nothing")),
            flags::Flag::value("docker", "host=tcp://docker:2376", Handling::NoEffect("it changes nothing")),
            flags::Flag::value("from", "x", Handling::NoEffect("it changes nothing")),
        ],
    },
    DockerCommand {
        path: "context use",
        aliases: &["context rm", "context remove"],
        does: Does::Own("Prints the name: builds run in this process, whatever the context", builders::name_context),
        operands: "NAME",
        flags: &[
            flags::Flag::switch("force", Handling::NoEffect("it changes nothing")).short('f'),
        ],
    },
    refuse("import", "is not there: in a Dockerfile, `FROM scratch` and `ADD archive.tar /` do the same"),
    refuse("compose", "needs an engine: `docker buildx bake -f compose.yaml` builds the images of a compose file"),
    refuse("search", "is not there: look on the registry's own pages"),
    refuse("trust", "is not there: sign the digest that `docker push` prints, with cosign or notation"),
    refuse("scout", "is not there: it is another program"),
    refuse("events", NO_ENGINE),
    refuse("network", NO_ENGINE),
    refuse("node", NO_ENGINE),
    refuse("plugin", NO_ENGINE),
    refuse("secret", NO_ENGINE),
    refuse("service", NO_ENGINE),
    refuse("stack", NO_ENGINE),
    refuse("swarm", NO_ENGINE),
    refuse("volume", NO_ENGINE),
    refuse("buildx history", "is not there: kiln keeps no records of builds"),
    refuse("buildx policy", "is not there: kiln does not evaluate policies, and refuses a build that has one unless `--policy disabled=true` is given"),
    refuse("buildx dap", "is not there: there is no debugger"),
    refuse("buildx debug", "is not there: there is no debugger"),
    refuse("buildx dial-stdio", "is not there: no daemon listens"),
    refuse("system events", NO_ENGINE),
];

/// True if a word begins a command of two words.
pub fn is_family(word: &str) -> bool {
    commands().any(|row| {
        let mut paths = [row.path].into_iter().chain(row.aliases.iter().copied());
        paths.any(|path| path.split_once(' ').is_some_and(|(first, _)| first == word))
    })
}

impl DockerCommand {
    /// Its effect in help and in the documentation.
    pub fn outcome(&self) -> String {
        match self.does {
            Does::Same(own) => format!("as `kiln {own}`, with its flags"),
            Does::Build => "as `kiln build`, with its flags".into(),
            Does::Bake => "builds the targets of bake and compose files, side by side".into(),
            Does::Own(about, _) | Does::Command(about, _) => about.into(),
            Does::Refuse(why) => format!("refused: {why}"),
        }
    }
}

/// The list of commands, or of those of a family.
pub fn help(family: &str) -> String {
    let prefix = if family.is_empty() { String::new() } else { format!("{family} ") };
    let rows: Vec<&DockerCommand> = commands()
        .filter(|row| row.path.starts_with(&prefix) && !matches!(row.does, Does::Refuse(_)))
        .collect();
    let width = rows.iter().map(|row| row.path.len()).max().unwrap_or(0);
    let mut text = format!(
        "docker, spoken by kiln: images are built in this process and kept in kiln's root.\n\n\
         Usage: docker {prefix}COMMAND\n\nCommands:\n"
    );
    for row in rows {
        text.push_str(&format!("  {:width$}  {}\n", row.path, row.outcome()));
    }
    text.push_str(
        "\n`docker COMMAND --help` has the flags of a command. What needs an engine says so.\n",
    );
    text
}
