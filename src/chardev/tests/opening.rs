//! Opening what is slow keeps nobody waiting but whoever asked.

use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;

#[tokio::test]
async fn a_named_pipe_waits_for_its_reader_while_others_are_served() {
    let folder = Folder::new("fifo");
    let path = folder.path("fifo");
    mkfifo(path.as_str(), Mode::S_IRWXU).unwrap();
    let registry = registry();
    for text in [
        format!("file,id=slow,path={path}"),
        format!("null,id=slow,logfile={path}"),
    ] {
        let mut opening = std::pin::pin!(registry.add(options(&text)));
        tokio::select! {
            biased;
            result = &mut opening => panic!("opened without a reader: {result:?}"),
            added = async {
                let added = registry.add(options("null,id=quick")).await;
                // The first one has asked more than once by then.
                tokio::time::sleep(Duration::from_millis(50)).await;
                added
            } => added.unwrap(),
        };
        let taken = registry.add(options("null,id=slow")).await.unwrap_err().to_string();
        assert_eq!(taken, "Chardev with id 'slow' already exists", "the id is kept for it");
        let reader = open_terminal(&path);
        opening.await.unwrap();
        let line = guest(&registry, "slow").await;
        line.send("hello").await;
        assert_eq!(read_file(&reader, 5).await, "hello");
        drop(line);
        registry.remove("slow").await.unwrap();
        registry.remove("quick").await.unwrap();
    }
}

#[tokio::test]
async fn whoever_gives_up_waiting_for_a_reader_leaves_the_id_free() {
    let folder = Folder::new("fifo-left");
    let path = folder.path("fifo");
    mkfifo(path.as_str(), Mode::S_IRWXU).unwrap();
    let registry = registry();
    let opening = registry.add(options(&format!("file,id=c,path={path}")));
    assert!(tokio::time::timeout(Duration::from_millis(30), opening).await.is_err());
    add(&registry, "null,id=c").await;
}

#[tokio::test]
async fn input_from_a_named_pipe_comes_whenever_somebody_writes() {
    let folder = Folder::new("fifo-input");
    let (path, output) = (folder.path("fifo"), folder.path("output"));
    mkfifo(path.as_str(), Mode::S_IRWXU).unwrap();
    let registry = registry();
    add(&registry, &format!("file,id=c,path={output},input-path={path}")).await;
    let mut front = registry.connect("c").await.unwrap();
    opened(&mut front).await;
    for text in ["first writer", "second writer"] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(data(&mut front).await.bytes, text.as_bytes());
    }
}

#[tokio::test]
async fn what_cannot_be_opened_is_named() {
    let registry = registry();
    let error = registry
        .add(options("file,id=c,path=/proc/self/mem/x"))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "Could not open '/proc/self/mem/x': Not a directory");
}
