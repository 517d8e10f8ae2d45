//! Opening images of qcow2, with the nodes that they say they are made of.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::edges::{Edge, User};
use super::open::{Inherited, Opened};
use super::{Graph, Opener};
use crate::block::qcow2::{self, Header, Qcow2};
use crate::block::{BlockError, IoBuffer, Node};
use crate::qapi::Error;
use crate::qapi::qmp::{
    BlockdevOptions, BlockdevOptionsFile, BlockdevOptionsQcow2, BlockdevOptionsRaw, BlockdevOptionsVariant,
    BlockdevRef, BlockdevRefOrNull,
};

/// An image on its way to be a node. What was made for it alone goes when there will be none.
pub(super) struct Making<'a> {
    graph: &'a Graph,
    /// What uses those nodes until the image is one itself.
    user: Option<User>,
    children: Vec<Arc<Node>>,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        if let Some(user) = self.user.take() {
            self.graph.lock().disconnect(&user);
            self.graph.drop_unused(&self.children);
        }
    }
}

impl<'a> Making<'a> {
    fn new(graph: &'a Graph, name: &str) -> Self {
        Self {
            graph,
            user: Some(graph.lock().opening(name)),
            children: Vec::new(),
        }
    }

    /// From now on somebody else sees to it: the user whose uses are to be handed over.
    pub(super) fn finish(mut self) -> Option<User> {
        self.user.take()
    }

    /// Uses a node from now on as the image will, so that nobody else changes it meanwhile.
    fn hold(&mut self, role: &'static str, child: &Arc<Node>, read_only: bool) -> Result<(), Error> {
        self.children.push(Arc::clone(child));
        let edges = self.user.iter().map(|user| Edge {
            user: user.clone(),
            role,
            child: Arc::clone(child),
            uses: qcow2::use_of_storage(read_only),
        });
        Ok(self.graph.lock().connect(edges.collect())?)
    }
}

impl Graph {
    /// The driver over an image, which is to be a node of this name.
    pub(super) async fn open_qcow2<'a>(
        &'a self,
        opener: &dyn Opener,
        name: &str,
        options: &BlockdevOptionsQcow2,
        own: Inherited,
        read_only: &mut bool,
    ) -> Result<Opened<'a>, Error> {
        let bytes = |name: &str, value: Option<i64>| match value.map(u64::try_from) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(_)) => Err(Error::generic(format!(
                "Parameter '{name}' expects a non-negative number"
            ))),
        };
        let l2_cache_size = bytes("l2-cache-size", options.l2_cache_size)?;
        let refcount_cache_size = bytes("refcount-cache-size", options.refcount_cache_size)?;
        let mut making = Making::new(self, name);
        // The image itself says what becomes of discarded bytes.
        let below = Inherited { unmap: true, ..own };
        let file = self.child(opener, &options.file, below).await?;
        *read_only = own.read_only || own.auto_read_only && file.config().read_only;
        making.hold("file", &file, *read_only)?;
        let header = qcow2::read_header(&file).await.map_err(failed)?;
        let data_file = self.data_file(opener, &file, &header, options, below).await?;
        if let Some(data_file) = &data_file {
            making.hold("data-file", data_file, *read_only)?;
        }
        let backing = self.backing(opener, &file, &header, options, own).await?;
        making.children.extend(backing.clone());
        // What the header says itself is not said again.
        let behind = backing.as_ref().map(|backing| backing.driver().filename());
        let is_overridden = match (&options.backing, behind) {
            (None, _) => false,
            (Some(_), Some(behind)) => behind != header.backing_file,
            (Some(_), None) => header.backing_file.is_some(),
        };
        let mut description = Map::new();
        if is_overridden && backing.is_none() {
            description.insert("backing".to_owned(), Value::Null);
        }
        let image = Qcow2::open(qcow2::OpenOptions {
            data_file,
            backing,
            read_only: *read_only,
            lazy_refcounts: options.lazy_refcounts,
            l2_cache_size,
            refcount_cache_size,
            is_described: is_overridden || options.data_file.is_some(),
            ..qcow2::OpenOptions::new(file, Arc::clone(&self.pool))
        });
        let image = image.await.map_err(failed)?;
        Ok(Opened {
            driver: Box::new(image),
            description,
            making: Some(making),
        })
    }

    /// The node that has the guest's data, if it is another one.
    async fn data_file(
        &self,
        opener: &dyn Opener,
        file: &Arc<Node>,
        header: &Header,
        options: &BlockdevOptionsQcow2,
        inherited: Inherited,
    ) -> Result<Option<Arc<Node>>, Error> {
        match (&options.data_file, &header.data_file) {
            _ if !header.has_data_file() && options.data_file.is_none() => Ok(None),
            (Some(_), _) if !header.has_data_file() => Err(failed(qcow2::ImageError::DataFileUnexpected)),
            (Some(child), _) => self.child(opener, child, inherited).await.map(Some),
            (None, None) => Err(failed(qcow2::ImageError::DataFileMissing)),
            (None, Some(name)) => {
                let path = path_beside(file, name)?;
                self.open_path(opener, &path, inherited).await.map(Some)
            }
        }
    }

    /// The node behind an image: the one that is asked for, or the one that the image names.
    async fn backing(
        &self,
        opener: &dyn Opener,
        file: &Arc<Node>,
        header: &Header,
        options: &BlockdevOptionsQcow2,
        own: Inherited,
    ) -> Result<Option<Arc<Node>>, Error> {
        let inherited = Inherited { read_only: true, ..own };
        let asked = match (&options.backing, &header.backing_file) {
            (Some(BlockdevRefOrNull::Null(_)), _) | (None, None) => return Ok(None),
            (Some(BlockdevRefOrNull::Reference(name)), _) => BlockdevRef::Reference(name.clone()),
            (Some(BlockdevRefOrNull::Definition(options)), _) => BlockdevRef::Definition(options.clone()),
            (None, Some(name)) => {
                let named = self.backing_by_name(opener, file, name, header, inherited).await;
                return named.map(Some).map_err(|error| Error {
                    desc: format!("Could not open backing file: {}", error.desc),
                    ..error
                });
            }
        };
        self.child(opener, &asked, inherited).await.map(Some)
    }

    async fn backing_by_name(
        &self,
        opener: &dyn Opener,
        file: &Arc<Node>,
        name: &str,
        header: &Header,
        inherited: Inherited,
    ) -> Result<Arc<Node>, Error> {
        let path = path_beside(file, name)?;
        let inherited = Inherited {
            depth: inherited.depth + 1,
            ..inherited
        };
        let storage = self.open_path(opener, &path, inherited).await?;
        let opened = self
            .format_over(opener, &storage, header.backing_format.as_deref(), inherited)
            .await;
        if opened.is_err() {
            self.drop_unused(&[storage]);
        }
        opened
    }

    /// The format of an image that nobody has described: the one of that name, or the one it looks like.
    async fn format_over(
        &self,
        opener: &dyn Opener,
        storage: &Arc<Node>,
        format: Option<&str>,
        inherited: Inherited,
    ) -> Result<Arc<Node>, Error> {
        let file = BlockdevRef::Reference(storage.name().to_owned());
        let format = match format {
            Some(format) => format,
            None => {
                let start = IoBuffer::zeroed(8);
                storage.read(0, start.clone()).await?;
                if qcow2::is_qcow2(&start.to_vec()) {
                    "qcow2"
                } else {
                    "raw"
                }
            }
        };
        let variant = match format {
            "raw" => BlockdevOptionsVariant::Raw(BlockdevOptionsRaw {
                file,
                offset: None,
                size: None,
            }),
            "qcow2" => BlockdevOptionsVariant::Qcow2(BlockdevOptionsQcow2 {
                file,
                backing: None,
                data_file: None,
                lazy_refcounts: None,
                l2_cache_size: None,
                refcount_cache_size: None,
            }),
            other => return Err(Error::generic(format!("Unknown driver '{other}'"))),
        };
        self.open(opener, &undescribed(variant), inherited, false).await
    }

    /// A node over what is at a path of the host.
    async fn open_path(&self, opener: &dyn Opener, path: &str, inherited: Inherited) -> Result<Arc<Node>, Error> {
        let storage = BlockdevOptionsFile {
            filename: path.to_owned(),
            locking: None,
            aio: None,
        };
        let file = undescribed(BlockdevOptionsVariant::File(storage.clone()));
        let error = match self.open(opener, &file, inherited, false).await {
            Ok(node) => return Ok(node),
            Err(error) => error,
        };
        let device = undescribed(BlockdevOptionsVariant::HostDevice(storage));
        self.open(opener, &device, inherited, false).await.map_err(|_| error)
    }
}

fn undescribed(variant: BlockdevOptionsVariant) -> BlockdevOptions {
    BlockdevOptions {
        node_name: None,
        discard: None,
        cache: None,
        read_only: None,
        auto_read_only: None,
        detect_zeroes: None,
        variant,
    }
}

/// The path that an image means by a name: beside its own file, unless it begins with `/`.
pub(super) fn path_beside(file: &Node, name: &str) -> Result<String, Error> {
    let name = name.strip_prefix("file:").unwrap_or(name);
    let first = name.split('/').next().unwrap_or_default();
    if let Some((protocol, _)) = first.split_once(':') {
        return Err(Error::generic(format!("Unknown protocol '{protocol}'")));
    }
    if name.starts_with('/') {
        return Ok(name.to_owned());
    }
    let own = file.driver().filename().unwrap_or_default();
    Ok(match own.rsplit_once('/') {
        Some((directory, _)) => format!("{directory}/{name}"),
        None => name.to_owned(),
    })
}

fn failed(error: qcow2::ImageError) -> Error {
    BlockError::from(error).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::memory::MemoryDriver;

    #[test]
    fn names_are_paths_beside_the_image() {
        let nowhere = MemoryDriver::node("n", Vec::new());
        assert_eq!(path_beside(&nowhere, "base").as_deref(), Ok("base"));
        assert_eq!(path_beside(&nowhere, "/a/base").as_deref(), Ok("/a/base"));
        assert_eq!(path_beside(&nowhere, "file:/a/b:c").as_deref(), Ok("/a/b:c"));
        assert_eq!(path_beside(&nowhere, "a/b:c").as_deref(), Ok("a/b:c"));
        for name in ["json:{}", "nbd:localhost", "https://host/x"] {
            let protocol = name.split(':').next().unwrap_or_default();
            let error = path_beside(&nowhere, name).unwrap_err();
            assert_eq!(error.desc, format!("Unknown protocol '{protocol}'"));
        }
    }
}
