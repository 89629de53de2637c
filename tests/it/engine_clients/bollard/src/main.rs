//! bollard against an engine. Arguments: the registry's host, user, password, and the folder of the context.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Debug;
use std::path::Path;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::grpc::build::{
    ImageBuildFrontendOptions, ImageBuildFrontendOptionsBuilder, ImageBuildLoadInput, SecretSource,
};
use bollard::grpc::driver::docker_container::DockerContainerBuilder;
use bollard::grpc::driver::moby::Moby;
use bollard::grpc::driver::{Build as _, Export as _, Image as _, ImageExporterEnum};
use bollard::grpc::export::ImageExporterOutput;
use bollard::grpc::registry::ImageRegistryOutput;
use bollard::query_parameters::{
    BuildImageOptionsBuilder, BuilderVersion, CreateImageOptionsBuilder, ImportImageOptions,
    ListImagesOptionsBuilder, PruneBuildOptions, PruneImagesOptionsBuilder,
    PushImageOptionsBuilder, RemoveImageOptions, TagImageOptionsBuilder,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The service, and what is built with it.
struct Client {
    docker: Docker,
    host: String,
    login: DockerCredentials,
    context: Bytes,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, user, password, folder] = &arguments[..] else {
        return Err("four arguments".into());
    };
    let login = DockerCredentials {
        username: Some(user.clone()),
        password: Some(password.clone()),
        serveraddress: Some(host.clone()),
        ..DockerCredentials::default()
    };
    let archive = std::process::Command::new("tar")
        .args(["--create", "--exclude=./home", "--directory", folder, "."])
        .output()?;
    let docker = Docker::connect_with_defaults()?.negotiate_version().await?;
    let context = archive.stdout.into();
    let client = Client { docker, host: host.clone(), login, context };
    client.facts().await?;
    client.classic().await?;
    client.session().await?;
    client.registry().await?;
    client.buildkit(Path::new(folder)).await?;
    client.prune().await?;
    println!("done");
    Ok(())
}

impl Client {
    async fn facts(&self) -> Result<()> {
        assert_eq!(self.docker.ping().await?, "OK");
        let version = self.docker.version().await?.version.unwrap_or_default();
        assert!(version.starts_with("28."), "{version}");
        assert_eq!(self.docker.info().await?.os_type.as_deref(), Some("linux"));
        Ok(())
    }

    fn logins(&self) -> HashMap<String, DockerCredentials> {
        HashMap::from([(self.host.clone(), self.login.clone())])
    }

    /// A build of the classic builder, and one that fails.
    async fn classic(&self) -> Result<()> {
        let args = HashMap::from([("WHO".to_owned(), "me".to_owned())]);
        let app = format!("{}/app:1", self.host);
        let options = BuildImageOptionsBuilder::default().t(&app).target("first").buildargs(&args);
        let body = bollard::body_full(self.context.clone());
        let built = self.docker.build_image(options.build(), Some(self.logins()), Some(body));
        let built: Vec<_> = built.try_collect().await?;
        let said: String = built.into_iter().filter_map(|line| line.stream).collect();
        assert!(said.contains(&format!("Successfully tagged {app}")), "{said}");
        self.has_env(&app, "WHO=me").await?;

        let options = BuildImageOptionsBuilder::default().target("broken").build();
        let body = bollard::body_full(self.context.clone());
        let failed = self.docker.build_image(options, Some(self.logins()), Some(body));
        fails(failed.try_collect::<Vec<_>>().await, "7");
        Ok(())
    }

    /// A build of BuildKit with bollard's session.
    async fn session(&self) -> Result<()> {
        let options = BuildImageOptionsBuilder::default()
            .t("second:2")
            .target("first")
            .version(BuilderVersion::BuilderBuildKit)
            .session("bollard-1");
        let body = bollard::body_full(self.context.clone());
        let built = self.docker.build_image(options.build(), Some(self.logins()), Some(body));
        let built: Vec<_> = built.try_collect().await?;
        assert!(built.iter().any(|line| line.aux.is_some()), "{built:?}");
        self.has_env("second:2", "WHO=nobody").await
    }

    /// Names, lists, history; to the registry and back; archives.
    async fn registry(&self) -> Result<()> {
        let (docker, app) = (&self.docker, format!("{}/app", self.host));
        let named = format!("{app}:1");
        let id = docker.inspect_image(&named).await?.id;
        let third = TagImageOptionsBuilder::default().repo("third").tag("3").build();
        docker.tag_image(&named, Some(third)).await?;
        let filters = HashMap::from([("reference".to_owned(), vec!["third".to_owned()])]);
        let third = ListImagesOptionsBuilder::default().filters(&filters).build();
        let listed = docker.list_images(Some(third)).await?;
        assert_eq!(
            listed.into_iter().map(|image| Some(image.id)).collect::<Vec<_>>(),
            [id.clone()]
        );
        let history = docker.image_history(&named).await?;
        assert!(history.iter().any(|step| step.created_by.contains("COPY hello")), "{history:?}");

        let one = PushImageOptionsBuilder::default().tag("1").build();
        all(docker.push_image(&app, Some(one), Some(self.login.clone()))).await?;
        let there = docker.inspect_registry_image(&named, Some(self.login.clone())).await?;
        assert!(there.descriptor.digest.is_some_and(|digest| digest.starts_with("sha256:")));
        // `get` has no credentials to fetch the layers of the base.
        let base = format!("{}/library/busybox", self.host);
        let pulled = CreateImageOptionsBuilder::default().from_image(&base).tag("latest").build();
        all(docker.create_image(Some(pulled), None, Some(self.login.clone()))).await?;
        let saved = all(docker.export_image("third:3")).await?.concat();
        for name in [named.as_str(), "third:3"] {
            docker.remove_image(name, None::<RemoveImageOptions>, None).await?;
        }
        fails(docker.inspect_image(&named).await, "No such image");
        let body = bollard::body_full(saved.into());
        all(docker.import_image(ImportImageOptions::default(), body, None)).await?;
        assert_eq!(docker.inspect_image("third:3").await?.id, id);
        let pulled = CreateImageOptionsBuilder::default().from_image(&app).tag("1").build();
        all(docker.create_image(Some(pulled), None, Some(self.login.clone()))).await?;
        assert_eq!(docker.inspect_image(&named).await?.id, id);
        Ok(())
    }

    /// BuildKit's client, by `/grpc` and in a container: an image of the engine, a push, an archive.
    async fn buildkit(&self, folder: &Path) -> Result<()> {
        let secret = folder.join("hello");
        let options = |target: &str| -> ImageBuildFrontendOptionsBuilder {
            ImageBuildFrontendOptions::builder()
                .target(target)
                .buildarg("WHO", "grpc")
                .set_secret("word", &SecretSource::File(secret.clone()))
        };
        let load = || ImageBuildLoadInput::Upload(self.context.clone());
        let logins = || Some(HashMap::from([(self.host.as_str(), self.login.clone())]));

        let built = options("first").build();
        Moby::new(&self.docker).docker_build("fourth:4", built, load(), logins(), None).await?;
        self.has_env("fourth:4", "WHO=grpc").await?;
        let failed = options("broken").build();
        let failed = Moby::new(&self.docker).docker_build("none", failed, load(), logins(), None);
        fails(failed.await, "exit code: 7");

        // A container of BuildKit's, which goes after each build.
        let name = format!("{}/fifth:5", self.host);
        let output = ImageRegistryOutput::builder(&name).push(true).insecure_registry(true);
        let (built, builder) =
            (options("first").build(), DockerContainerBuilder::new(&self.docker));
        let builder = builder.bootstrap().await?;
        builder.registry(output.consume(), built, load(), logins(), None).await?;
        let there = self.docker.inspect_registry_image(&name, Some(self.login.clone())).await?;
        assert!(there.descriptor.digest.is_some());

        let archive = folder.join("sixth.tar");
        let output = ImageExporterOutput::builder("sixth:6").dest(&archive);
        let (built, builder) =
            (options("first").build(), DockerContainerBuilder::new(&self.docker));
        let builder = builder.bootstrap().await?;
        let kind = ImageExporterEnum::OCI(output);
        builder.export(kind, built, load(), logins(), None).await?;
        let names =
            std::process::Command::new("tar").arg("--list").arg("--file").arg(&archive).output()?;
        assert!(String::from_utf8_lossy(&names.stdout).contains("oci-layout"), "{names:?}");
        Ok(())
    }

    async fn prune(&self) -> Result<()> {
        let filters = HashMap::from([("dangling".to_owned(), vec!["false".to_owned()])]);
        let all_unused = PruneImagesOptionsBuilder::default().filters(&filters).build();
        self.docker.prune_images(Some(all_unused)).await?;
        let listed =
            self.docker.list_images(Some(ListImagesOptionsBuilder::default().build())).await?;
        assert!(listed.is_empty(), "{listed:?}");
        self.docker.prune_build(None::<PruneBuildOptions>).await?;
        Ok(())
    }

    async fn has_env(&self, image: &str, wanted: &str) -> Result<()> {
        let config = self.docker.inspect_image(image).await?.config.unwrap_or_default();
        let env = config.env.unwrap_or_default();
        assert!(env.iter().any(|line| line == wanted), "{env:?}");
        Ok(())
    }
}

/// Everything that a call answers with.
async fn all<T>(
    answers: impl Stream<Item = std::result::Result<T, bollard::errors::Error>>,
) -> Result<Vec<T>> {
    Ok(answers.boxed_local().try_collect().await?)
}

fn fails<T: Debug, E: Debug>(result: std::result::Result<T, E>, word: &str) {
    let error = result.expect_err("the call must fail");
    let text = format!("{error:?}");
    assert!(text.contains(word), "{text}");
}
