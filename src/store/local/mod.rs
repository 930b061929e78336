//! A folder as a store: one file per object, its path the key.
//!
//! Promises that an object appears whole under its key by one rename or hard link, and that a put which returned `Ok`
//! survives a power cut: the file, the folder that names it and every folder that was made for it are flushed first. What
//! is not finished lies in one folder of its own, [`INCOMING`], whose name no key can have. It is the one home of blocking
//! file work; it must not know what the objects mean. A folder tells no clock but the machine's, so `now` is `None`.

mod explain;
mod walk;
mod write;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::store::local::explain::{Call, Trouble};
use crate::store::{Error, ObjectKey, ObjectMeta, ObjectStore, Page, PageToken, check_prefix, check_size, most_bytes};

/// The folder of unfinished objects, below the root. `=` is in no key, so it can never be listed or hit.
pub const INCOMING: &str = "=incoming";

/// A folder that keeps objects.
#[derive(Debug)]
pub struct LocalStore {
    folder: Arc<Folder>,
}

/// The folder itself, shared with the threads that work on it.
#[derive(Debug)]
struct Folder {
    root: PathBuf,
    /// Set by the first write of this process, which also clears what an earlier process left unfinished.
    prepared: std::sync::OnceLock<()>,
}

impl Folder {
    fn path(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(key.as_str())
    }

    fn incoming(&self) -> PathBuf {
        self.root.join(INCOMING)
    }
}

impl LocalStore {
    /// The store in `root`; looks at nothing yet. `put_new` makes the root if it is missing, `put` and listings refuse:
    /// a volume that is not mounted must not look like an empty repository.
    pub fn new(root: PathBuf) -> Self {
        Self { folder: Arc::new(Folder { root, prepared: std::sync::OnceLock::new() }) }
    }

    /// Runs file work on a thread that may block, and explains its trouble.
    async fn run<T: Send + 'static>(
        &self,
        call: Call,
        work: impl FnOnce(&Folder) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Error> {
        let folder = Arc::clone(&self.folder);
        #[expect(clippy::disallowed_methods, reason = "the one home of blocking file work")]
        let task = tokio::task::spawn_blocking(move || work(&folder));
        match task.await {
            Ok(result) => result.map_err(|trouble| explain::explain(call, trouble)),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(explain::shut_down(call)),
            },
        }
    }
}

/// The number and the bytes of the objects that nobody has finished yet, in the repository's folder `root`: of runs that are
/// under way, or that were killed. A run removes those that are older than a day.
pub async fn unfinished(root: PathBuf) -> (usize, u64) {
    let look = move || {
        let entries = fs::read_dir(root.join(INCOMING)).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.metadata().ok())
            .fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.len()))
    };
    #[expect(clippy::disallowed_methods, reason = "the one home of blocking file work")]
    let task = tokio::task::spawn_blocking(look);
    task.await.unwrap_or_default()
}

#[async_trait]
impl ObjectStore for LocalStore {
    fn location(&self) -> String {
        self.folder.root.display().to_string()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        let wanted = key.clone();
        self.run(Call::on("put", key), move |folder| write::put(folder, &wanted, &body)).await
    }

    async fn put_new(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        let wanted = key.clone();
        self.run(Call::on("put", key), move |folder| write::put_new(folder, &wanted, &body)).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        let path = self.folder.path(key);
        let enough = most_bytes(key) + 1;
        let body = self.run(Call::on("get", key), move |_| read(&path, 0, enough).map_err(Trouble::at(&path))).await?;
        check_size(key, body.len() as u64).map(|()| body)
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length: u64) -> Result<Bytes, Error> {
        let path = self.folder.path(key);
        self.run(Call::on("get", key), move |_| read(&path, offset, length).map_err(Trouble::at(&path))).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta, Error> {
        let (path, key_of_meta) = (self.folder.path(key), key.clone());
        self.run(Call::on("head", key), move |_| walk::meta(&path, key_of_meta).map_err(Trouble::at(&path))).await
    }

    async fn list_page(&self, prefix: &str, from: Option<&PageToken>) -> Result<Page, Error> {
        check_prefix(prefix)?;
        let (prefix, after) = (prefix.to_owned(), from.map(|token| token.0.clone()));
        self.run(Call::without_key("list"), move |folder| walk::page(&folder.root, &prefix, after.as_deref())).await
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, Error> {
        check_prefix(prefix)?;
        let prefix = prefix.to_owned();
        self.run(Call::without_key("list"), move |folder| walk::folders(&folder.root, &prefix)).await
    }

    /// Links the file under its second name; where the file system cannot, copies its bytes. The copy of a link is as old
    /// as its original.
    async fn copy(&self, from: &ObjectKey, to: &ObjectKey) -> Result<(), Error> {
        let (from_key, to_key) = (from.clone(), to.clone());
        self.run(Call::on("copy", from), move |folder| write::copy(folder, &from_key, &to_key)).await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), Error> {
        for key in keys {
            let wanted = key.clone();
            self.run(Call::on("delete", key), move |folder| write::delete(folder, &wanted)).await?;
        }
        Ok(())
    }

    async fn now(&self) -> Result<Option<DateTime<Utc>>, Error> {
        Ok(None)
    }
}

/// Up to `length` bytes of a file from `offset`.
///
/// An object never changes under its key, so a file that ends before its own length is damaged.
fn read(path: &Path, offset: u64, length: u64) -> io::Result<Bytes> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ErrorKind::NotFound.into());
    }
    let expected = metadata.len().saturating_sub(offset).min(length);
    let mut body = Vec::with_capacity(usize::try_from(expected).map_err(|_| ErrorKind::OutOfMemory)?);
    if offset != 0 {
        file.seek(SeekFrom::Start(offset))?;
    }
    file.take(expected).read_to_end(&mut body)?;
    if body.len() as u64 == expected { Ok(body.into()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

/// True where there is nothing under this path: no file, or a file in the place of one of its folders.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory)
}

/// Flushes a folder, so that the names in it survive a power cut. File systems that cannot do this say so, and have
/// nothing better to offer.
fn sync_folder(path: &Path) -> io::Result<()> {
    match fs::File::open(path)?.sync_all() {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}
