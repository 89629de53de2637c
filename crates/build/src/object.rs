//! An object of an object store, as a file: contexts that other tools keep there.

use cache::{BucketPlace, BucketSettings};

/// Writes an object into a file.
///
/// # Errors
/// If the store does not give it, or the file cannot be written.
pub async fn fetch(
    settings: BucketSettings,
    key: &str,
    file: &mut tokio::fs::File,
    client: &registry::Client,
) -> Result<(), cache::Error> {
    BucketPlace::new(settings, client)?.fetch(key, file).await
}
