//! How a folder is listed.
//!
//! Promises the order of keys although folders are read one by one, and memory bounded by one page and the folders on one
//! path. Files and folders whose name is no part of a key are not ours and are passed over.

use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::store::local::explain::Trouble;
use crate::store::local::is_absent;
use crate::store::{Content, MAX_KEY_BYTES, ObjectKey, ObjectMeta, Page, PageToken};

/// The most objects on one page. Larger than a page of S3, because each page reads the folders on its path again.
const PAGE_OBJECTS: usize = 10_000;

/// The objects below `prefix` after the key `after`, in key order.
pub(super) fn page(root: &Path, prefix: &str, after: Option<&str>) -> Result<Page, Trouble> {
    let mut walk = Walk { after: after.unwrap_or_default(), objects: Vec::new(), most: PAGE_OBJECTS };
    check_root(root)?;
    walk.enter(&root.join(prefix), prefix).map_err(Trouble::at(root))?;
    let full = walk.objects.len() == walk.most;
    let next = walk.objects.last().filter(|_| full).map(|last| PageToken(last.key.as_str().to_owned()));
    Ok(Page { objects: walk.objects, next })
}

/// The names of the folders directly below `prefix` that hold an object.
pub(super) fn folders(root: &Path, prefix: &str) -> Result<Vec<String>, Trouble> {
    check_root(root)?;
    let path = root.join(prefix);
    let mut names = Vec::new();
    for name in entries(&path, prefix).map_err(Trouble::at(&path))? {
        if let Some(folder) = name.strip_suffix('/') {
            let mut walk = Walk { after: "", objects: Vec::new(), most: 1 };
            walk.enter(&path.join(folder), &format!("{prefix}{name}")).map_err(Trouble::at(&path))?;
            if !walk.objects.is_empty() {
                names.push(folder.to_owned());
            }
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Size and time of the object in `path`.
pub(super) fn meta(path: &Path, key: ObjectKey) -> io::Result<ObjectMeta> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    // Some file systems make inode numbers up; of a file with several links they are meant.
    let content = (metadata.nlink() >= 2).then(|| Content::of_file(metadata.dev(), metadata.ino()));
    Ok(ObjectMeta { key, bytes: metadata.len(), modified_at: metadata.modified()?.into(), content })
}

/// Tells an empty repository from one that is not there.
fn check_root(root: &Path) -> Result<(), Trouble> {
    match fs::metadata(root) {
        Err(error) if is_absent(&error) => Err(Trouble::NoRoot { root: root.to_owned() }),
        result => result.map(drop).map_err(Trouble::at(root)),
    }
}

/// A walk that stops after `most` objects.
struct Walk<'a> {
    after: &'a str,
    objects: Vec<ObjectMeta>,
    most: usize,
}

impl Walk<'_> {
    /// Takes the objects of the folder `path`, whose keys begin with `prefix`. A folder that a delete removed meanwhile
    /// holds nothing.
    fn enter(&mut self, path: &Path, prefix: &str) -> io::Result<()> {
        for name in entries(path, prefix)? {
            let key = format!("{prefix}{name}");
            if self.objects.len() == self.most {
                break;
            }
            if let Some(folder) = name.strip_suffix('/') {
                // All keys in the folder begin with `key`: they are all behind us, or all ahead, or `after` is inside.
                if self.after < key.as_str() || self.after.starts_with(&key) {
                    self.enter(&path.join(folder), &key)?;
                }
            } else if self.after < key.as_str() {
                self.take(&path.join(&name), key)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, path: &Path, key: String) -> io::Result<()> {
        let Ok(key) = ObjectKey::new(key) else { return Ok(()) };
        match meta(path, key) {
            Ok(found) => self.objects.push(found),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The names in a folder in the order of the keys that they begin: a folder's name ends in `/`, so that `a-b` comes before
/// what is in `a/`. Symbolic links are followed, and a cycle of them is an error of the system.
fn entries(path: &Path, prefix: &str) -> io::Result<Vec<String>> {
    let found = match fs::read_dir(path) {
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        result => result?,
    };
    let mut names = Vec::new();
    for entry in found {
        let entry = entry?;
        let Some(mut name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        if ObjectKey::new(name.as_str()).is_err() || MAX_KEY_BYTES < prefix.len() + name.len() {
            continue;
        }
        match is_folder(&entry) {
            Ok(true) => name.push('/'),
            Ok(false) => {}
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(error),
        }
        names.push(name);
    }
    names.sort_unstable();
    Ok(names)
}

fn is_folder(entry: &DirEntry) -> io::Result<bool> {
    let kind = entry.file_type()?;
    if kind.is_symlink() { Ok(fs::metadata(entry.path())?.is_dir()) } else { Ok(kind.is_dir()) }
}
