//! How an object comes into a folder and how it leaves.
//!
//! Promises that the bytes are flushed before the name appears, and the name before the caller hears of success. A fault
//! half-way leaves at most a file in [`INCOMING`](super::INCOMING).

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::RenameFlags;

use crate::store::ObjectKey;
use crate::store::local::explain::Trouble;
use crate::store::local::{Folder, is_absent, sync_folder};

/// How often a put makes its folder again because a delete beside it removed the empty folder.
const FOLDER_RACES: u32 = 16;

/// How old an unfinished object is before it counts as left over by a process that died.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Numbers the unfinished objects of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Stores an object, replacing the same bytes.
pub(super) fn put(folder: &Folder, key: &ObjectKey, body: &[u8]) -> Result<(), Trouble> {
    let incoming = receive(folder, |file| file.write_all(body))?;
    publish(folder, key, |path| fs::rename(&incoming.path, path))
}

/// Stores an object under a free key; makes the root if it is missing.
pub(super) fn put_new(folder: &Folder, key: &ObjectKey, body: &[u8]) -> Result<(), Trouble> {
    create_root(&folder.root)?;
    let incoming = receive(folder, |file| file.write_all(body))?;
    match publish(folder, key, |path| link_or_move(&incoming.path, path)) {
        Err(Trouble::System { error, .. }) if error.kind() == ErrorKind::AlreadyExists => Err(Trouble::Taken),
        result => result,
    }
}

/// Gives an object a second key. The same object there already is success.
pub(super) fn copy(folder: &Folder, from: &ObjectKey, to: &ObjectKey) -> Result<(), Trouble> {
    let source = folder.path(from);
    let original = File::open(&source).map_err(Trouble::at(&source))?;
    let linked = publish(folder, to, |path| match fs::hard_link(&source, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        result => result,
    });
    match linked {
        Err(Trouble::System { error, .. }) if cannot_link(&error) => {
            let incoming = receive(folder, |file| io::copy(&mut &original, file).map(drop))?;
            publish(folder, to, |path| fs::rename(&incoming.path, path))
        }
        result => result,
    }
}

/// Removes an object and the folders that it leaves empty.
pub(super) fn delete(folder: &Folder, key: &ObjectKey) -> Result<(), Trouble> {
    let path = folder.path(key);
    match fs::remove_file(&path) {
        Err(error) if !is_absent(&error) => return Err(Trouble::at(&path)(error)),
        _ => {}
    }
    // A folder that is not empty, or gone already, ends the climb: neither is trouble.
    let above = path.ancestors().skip(1).take_while(|above| *above != folder.root);
    for empty in above {
        if fs::remove_dir(empty).is_err() {
            break;
        }
    }
    Ok(())
}

/// An unfinished object; its file is removed when it is dropped, unless it was renamed.
struct Incoming {
    path: PathBuf,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // Gone if it was renamed; if it cannot be removed, it is a leftover like that of a process that died.
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes and flushes a file that has no key yet.
fn receive(folder: &Folder, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<Incoming, Trouble> {
    prepare(folder)?;
    let (mut file, incoming) = create_incoming(folder)?;
    write(&mut file).and_then(|()| file.sync_all()).map_err(Trouble::at(&incoming.path))?;
    Ok(incoming)
}

fn create_incoming(folder: &Folder) -> Result<(File, Incoming), Trouble> {
    loop {
        let name = format!("{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = folder.incoming().join(name);
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, Incoming { path })),
            // Of a process with our number, dead or on another machine: the next number.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Trouble::at(&path)(error)),
        }
    }
}

/// Gives a file its name in the tree: makes the folders, names it, flushes the name.
fn publish(folder: &Folder, key: &ObjectKey, name_it: impl Fn(&Path) -> io::Result<()>) -> Result<(), Trouble> {
    let path = folder.path(key);
    let parent = path.parent().expect("a key has a name below the root");
    for race in 1.. {
        let named = create_folders(folder, parent).and_then(|()| name_it(&path).map_err(Trouble::at(&path)));
        match named {
            Err(trouble) if trouble.is_absence() && race < FOLDER_RACES => {}
            Err(trouble) => return Err(trouble),
            Ok(()) => break,
        }
    }
    sync_folder(parent).map_err(Trouble::at(parent))
}

/// Makes the folders from the root down to `parent` and flushes each that is new.
fn create_folders(folder: &Folder, parent: &Path) -> Result<(), Trouble> {
    let below = parent.strip_prefix(&folder.root).expect("the parent is below the root");
    let mut path = folder.root.clone();
    for name in below {
        let above = path.clone();
        path.push(name);
        match fs::create_dir(&path) {
            Ok(()) => sync_folder(&above).map_err(Trouble::at(&above))?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Trouble::at(&path)(error)),
        }
    }
    Ok(())
}

/// Makes the root and what is missing above it, each flushed.
fn create_root(root: &Path) -> Result<(), Trouble> {
    match fs::create_dir(root) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => match root.parent() {
            Some(above) => {
                create_root(above)?;
                return create_root(root);
            }
            None => return Err(Trouble::at(root)(error)),
        },
        result => result.map_err(Trouble::at(root))?,
    }
    let above = root.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync_folder(above).map_err(Trouble::at(above))
}

/// Links a file under a free name. Where there are no hard links, moves it without replacing (Linux `renameat2`): both are
/// atomic.
fn link_or_move(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if cannot_link(&error) => {
            let moved = rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, RenameFlags::NOREPLACE);
            moved.map_err(io::Error::from)
        }
        result => result,
    }
}

/// True where the two paths are fine but the file system makes no link between them.
fn cannot_link(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::CrossesDevices | ErrorKind::TooManyLinks | ErrorKind::PermissionDenied | ErrorKind::Unsupported
    )
}

/// Makes the folder of unfinished objects and clears old ones, once in a process.
fn prepare(folder: &Folder) -> Result<(), Trouble> {
    if folder.prepared.get().is_some() {
        return Ok(());
    }
    let incoming = folder.incoming();
    match fs::create_dir(&incoming) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Trouble::NoRoot { root: folder.root.clone() });
        }
        result => result.map_err(Trouble::at(&incoming))?,
    }
    let (_file, probe) = create_incoming(folder)?;
    clear_leftovers(&incoming, &probe.path).map_err(Trouble::at(&incoming))?;
    // Two writers may both come first: both cleared, nothing is lost.
    let _ = folder.prepared.set(());
    Ok(())
}

/// Removes unfinished objects that are older than [`LEFTOVER_AGE`] by the file system's own clock, which `probe` shows.
///
/// One that cannot be removed (of another user) stays: it harms nobody but the disk.
fn clear_leftovers(incoming: &Path, probe: &Path) -> io::Result<()> {
    let now = fs::metadata(probe)?.modified()?;
    for entry in fs::read_dir(incoming)? {
        let entry = entry?;
        let Ok(modified) = entry.metadata().and_then(|metadata| metadata.modified()) else { continue };
        if now.duration_since(modified).is_ok_and(|age| LEFTOVER_AGE < age) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}
