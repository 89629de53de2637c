//! Contexts in object stores: `s3://`, `gs://`, and Azure's addresses.

use std::path::{Path, PathBuf};

use build::BucketSettings;

use crate::args::compound::bucket::{OptionContext, bucket};
use crate::args::compound::{Fields, OptionError};
use crate::args::{FlagError, InFlag as _};
use crate::render::Report;
use crate::settings::{Environment, Settings};
use crate::{machine, threads};

/// An archive in an object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The store and its credentials.
    pub settings: BucketSettings,
    /// The object's name.
    pub key: String,
}

/// A fetched archive, which is removed on drop.
pub struct Fetched(PathBuf);

impl Fetched {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Object {
    /// The object that a context's address names; none if the address is not of an object store.
    ///
    /// # Errors
    /// If the address, or a variable that the store needs, is wrong or missing.
    pub fn of(
        context: &str,
        environment: &Environment,
        directory: &Path,
    ) -> Result<Option<Self>, FlagError> {
        let Some((scheme, rest)) = context.split_once("://") else { return Ok(None) };
        let azure_key = environment.get("AZURE_STORAGE_ACCESS_KEY");
        let (kind, bucket_name, key, mut options) = match (scheme, azure_key) {
            ("s3" | "gs", _) => {
                let (name, key) = rest.split_once('/').unwrap_or((rest, ""));
                let kind = if scheme == "s3" { "s3" } else { "gcs" };
                (kind, name, key, vec![format!("bucket={name}")])
            }
            // Without a key, or with a signature in it, the address is an ordinary URL.
            ("https", Some(secret))
                if rest.contains(".blob.core.windows.net/") && !rest.contains('?') =>
            {
                let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
                let (container, key) = path.split_once('/').unwrap_or((path, ""));
                let options = vec![
                    format!("account_url=https://{host}"),
                    format!("container={container}"),
                    format!("secret_access_key={secret}"),
                ];
                ("azblob", container, key, options)
            }
            _ => return Ok(None),
        };
        let flag = format!("--context={context}");
        if bucket_name.is_empty() || key.is_empty() {
            return Err(FlagError::bad(flag, format!("it is {scheme}://BUCKET/FILE.tar.gz")));
        }
        if kind == "s3" {
            options.extend(s3_options(environment));
        }
        let fields = Fields::of(&options).in_flag(&flag)?;
        let settings = bucket(kind, fields, OptionContext { directory, environment });
        let settings = settings.map_err(|error| match error {
            OptionError::Missing { key: "region", .. } => {
                FlagError::bad(&flag, "set AWS_REGION to the region of the bucket")
            }
            error => FlagError::bad(&flag, error),
        })?;
        Ok(Some(Self { settings, key: key.to_owned() }))
    }

    /// Fetches it to a file in kiln's root.
    ///
    /// # Errors
    /// If the store does not serve it, or the file cannot be written.
    pub fn fetch(&self, environment: &Environment, settings: &Settings) -> Result<Fetched, Report> {
        // Comes first: kiln executed again could not use the fetched file.
        machine::rise(settings);
        let client = machine::client(settings, environment)?;
        let path = settings.root.join(format!("context-{}.tar", std::process::id()));
        let wrong = |error| format!("writing `{}`: {error}", path.display());
        std::fs::create_dir_all(&settings.root).map_err(wrong)?;
        let file = std::fs::File::create(&path).map_err(wrong)?;
        let fetched = Fetched(path);
        let work = async {
            let mut file = tokio::fs::File::from_std(file);
            build::fetch_object(&self.settings, &self.key, &mut file, &client).await
        };
        let result = threads::finish(work)?;
        result.ok_or_else(threads::canceled)?.map_err(|error| oci::chain_text(&error))?;
        Ok(fetched)
    }
}

/// kaniko's own variables for S3.
fn s3_options(environment: &Environment) -> Vec<String> {
    let mut options = Vec::new();
    if let Some(endpoint) = environment.get("S3_ENDPOINT") {
        options.push(format!("endpoint_url={endpoint}"));
        // Other servers than Amazon's ignore the region, but a signature needs one.
        if ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().all(|name| environment.get(name).is_none()) {
            options.push("region=us-east-1".into());
        }
    }
    if let Some(path_style) = environment.get("S3_FORCE_PATH_STYLE") {
        options.push(format!("use_path_style={path_style}"));
    }
    options
}

#[cfg(test)]
mod tests {
    use build::Service;

    use super::*;

    fn object(context: &str, variables: &[(&str, &str)]) -> Result<Option<Object>, FlagError> {
        Object::of(context, &Environment::of(variables), Path::new("/work"))
    }

    #[test]
    fn addresses_are_of_stores_or_of_none() {
        let s3 = object(
            "s3://b/k/c.tar.gz",
            &[("S3_ENDPOINT", "http://h:1"), ("S3_FORCE_PATH_STYLE", "true")],
        );
        let s3 = s3.unwrap().unwrap();
        let endpoint = Some("http://h:1".to_owned());
        let service = Service::S3 { region: "us-east-1".into(), endpoint, path_style: true };
        assert_eq!((s3.key.as_str(), s3.settings.bucket.as_str()), ("k/c.tar.gz", "b"));
        assert_eq!(s3.settings.service, service);
        let azure = "https://acc.blob.core.windows.net/c/k.tar.gz";
        let found = object(azure, &[("AZURE_STORAGE_ACCESS_KEY", "c2VjcmV0")]).unwrap().unwrap();
        let account_url = "https://acc.blob.core.windows.net".to_owned();
        let service = Service::Azure { account_url, account: "acc".into() };
        assert_eq!((found.settings.service, found.key.as_str()), (service, "k.tar.gz"));
        assert_eq!(object("gs://b/k", &[]).unwrap().unwrap().settings.bucket, "b");
        for none in [azure, "https://example.com/a.tar.gz", "/src", "git://h/r"] {
            assert_eq!(object(none, &[]), Ok(None), "{none}");
        }
        let signed = format!("{azure}?sig=x");
        assert_eq!(object(&signed, &[("AZURE_STORAGE_ACCESS_KEY", "c2VjcmV0")]), Ok(None));
        assert!(object("s3://b/k", &[]).unwrap_err().to_string().contains("AWS_REGION"));
        assert!(object("gs://b", &[]).unwrap_err().to_string().contains("gs://BUCKET/FILE.tar.gz"));
    }
}
