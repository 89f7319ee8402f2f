//! Servers that keep repositories, for the time of a test: rclone's REST server, OpenSSH, and S3 by `s3s-fs`.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Request, S3Response, S3Result, dto};
use socle::host::vault::{Access, Location, SshKey};
use socle::model::Secret;

use crate::Bench;

/// A program that listens on the loopback, ended with it.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn listening(child: Child, port: u16) -> Server {
    let server = Server { child, port };
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "nothing listens on {port}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server
}

/// `rclone serve restic` of a directory. Needs the package `rclone`.
pub async fn rest(directory: &Path, more: &[&str]) -> Server {
    let port = free_port();
    let child = Command::new("rclone")
        .args(["serve", "restic", "--user", "blog", "--pass", "hush", "--addr", &format!("127.0.0.1:{port}")])
        .args(more)
        .arg(directory)
        .stderr(Stdio::null())
        .spawn()
        .expect("rclone is installed: `apt install rclone`");
    listening(child, port).await
}

pub fn over_rest(bench: &Bench, port: u16, password: &str) -> Access {
    let user = Some(("blog".to_owned(), Secret::new(password)));
    Access { location: Location::Rest { url: format!("http://127.0.0.1:{port}/blog"), user }, ..bench.access.clone() }
}

/// OpenSSH's server, which lets one key in. Needs the package `openssh-server`.
pub struct Sshd {
    pub server: Server,
    pub host_key: String,
    pub identity: Secret,
    /// The same in a file, for `ssh`.
    pub identity_file: PathBuf,
    pub user: String,
}

/// Private and public half, as ssh-keygen would write them.
pub fn key_pair(seed: u8) -> (Secret, String) {
    let key = SshKey::from_seed(&[seed; 32], "test").unwrap();
    (key.private().unwrap(), key.public().unwrap())
}

fn write_private(path: &Path, text: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// `before`: a command line that runs the server as its last words.
pub async fn sshd_by(directory: &Path, before: &[&str]) -> Sshd {
    let home = directory.join("sshd");
    std::fs::create_dir_all(&home).unwrap();
    let ((host, host_public), (identity, public)) = (key_pair(1), key_pair(2));
    write_private(&home.join("host_key"), host.expose());
    write_private(&home.join("identity"), identity.expose());
    write_private(&home.join("authorized_keys"), &format!("{public}\n"));
    if nix::unistd::geteuid().is_root() {
        // The directory that its unit makes.
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create("/run/sshd").unwrap();
    }
    let port = free_port();
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {home}/host_key\nPidFile none\nStrictModes no\nUsePAM no\n\
         AuthorizedKeysFile {home}/authorized_keys\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n",
        home = home.display()
    );
    std::fs::write(home.join("config"), config).unwrap();
    let sshd = ["/usr/sbin/sshd", "-D", "-e", "-f"];
    let words: Vec<&str> = before.iter().chain(&sshd).copied().collect();
    let child = Command::new(words[0])
        .args(&words[1..])
        .arg(home.join("config"))
        .stderr(Stdio::null())
        .spawn()
        .expect("sshd is installed: `apt install openssh-server`");
    Sshd {
        server: listening(child, port).await,
        host_key: host_public,
        identity,
        identity_file: home.join("identity"),
        user: nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name,
    }
}

pub async fn sshd(directory: &Path) -> Sshd {
    sshd_by(directory, &[]).await
}

impl Sshd {
    pub fn over(&self, bench: &Bench, port: u16) -> Access {
        let location = Location::Sftp {
            host: "127.0.0.1".into(),
            port,
            user: self.user.clone(),
            path: bench.repository().display().to_string(),
            identity: self.identity.clone(),
            host_keys: vec![self.host_key.clone()],
        };
        Access { location, ..bench.access.clone() }
    }

    pub fn access(&self, bench: &Bench) -> Access {
        self.over(bench, self.server.port)
    }
}

pub const BUCKET: &str = "association";
pub const S3_KEY: &str = "AKIDEXAMPLE";
pub const S3_SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// `s3s-fs`, which takes the empty delimiter that restic sends for one that divides everything, and is asked too much
/// now and then.
struct Storage {
    files: s3s_fs::FileSystem,
    /// So many writes are put off.
    busy: AtomicUsize,
}

#[async_trait::async_trait]
impl S3 for Storage {
    async fn get_bucket_location(
        &self,
        request: S3Request<dto::GetBucketLocationInput>,
    ) -> S3Result<S3Response<dto::GetBucketLocationOutput>> {
        self.files.get_bucket_location(request).await
    }

    async fn head_bucket(
        &self,
        request: S3Request<dto::HeadBucketInput>,
    ) -> S3Result<S3Response<dto::HeadBucketOutput>> {
        self.files.head_bucket(request).await
    }

    async fn list_objects_v2(
        &self,
        mut request: S3Request<dto::ListObjectsV2Input>,
    ) -> S3Result<S3Response<dto::ListObjectsV2Output>> {
        request.input.delimiter = request.input.delimiter.filter(|delimiter| !delimiter.is_empty());
        self.files.list_objects_v2(request).await
    }

    async fn head_object(
        &self,
        request: S3Request<dto::HeadObjectInput>,
    ) -> S3Result<S3Response<dto::HeadObjectOutput>> {
        self.files.head_object(request).await
    }

    async fn get_object(&self, request: S3Request<dto::GetObjectInput>) -> S3Result<S3Response<dto::GetObjectOutput>> {
        self.files.get_object(request).await
    }

    async fn put_object(&self, request: S3Request<dto::PutObjectInput>) -> S3Result<S3Response<dto::PutObjectOutput>> {
        let busy = self.busy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if busy.is_ok() {
            return Err(s3s::s3_error!(SlowDown));
        }
        self.files.put_object(request).await
    }

    async fn delete_object(
        &self,
        request: S3Request<dto::DeleteObjectInput>,
    ) -> S3Result<S3Response<dto::DeleteObjectOutput>> {
        self.files.delete_object(request).await
    }
}

/// S3 below `s3/` of the bench, with one bucket, which looks at signatures. Ends with the test's runtime.
pub async fn s3(bench: &Bench) -> u16 {
    busy_s3(bench, 0).await
}

/// The same; so many of the first writes are put off.
pub async fn busy_s3(bench: &Bench, busy: usize) -> u16 {
    let root = bench.path("s3");
    std::fs::create_dir_all(root.join(BUCKET)).unwrap();
    let files = s3s_fs::FileSystem::new(&root).unwrap();
    let mut builder = S3ServiceBuilder::new(Storage { files, busy: AtomicUsize::new(busy) });
    builder.set_auth(SimpleAuth::from_single(S3_KEY, S3_SECRET));
    let service = builder.build();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let served =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service.clone());
            tokio::spawn(served);
        }
    });
    port
}

pub fn over_s3(bench: &Bench, port: u16, secret: &str) -> Access {
    let location = Location::S3 {
        endpoint: format!("http://127.0.0.1:{port}"),
        region: "garage".into(),
        bucket: BUCKET.into(),
        prefix: "backups/ks1".into(),
        key: Secret::new(S3_KEY),
        secret: Secret::new(secret),
    };
    Access { location, ..bench.access.clone() }
}

/// A way to a server that is slow: so many bytes at a time, each after a moment.
pub async fn slow(to: u16, bytes: usize, moment: Duration) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let Ok(far) = tokio::net::TcpStream::connect(("127.0.0.1", to)).await else { continue };
            let (near, far) = (near.into_split(), far.into_split());
            for (mut from, mut to) in [(near.0, far.1), (far.0, near.1)] {
                tokio::spawn(async move {
                    let mut buffer = vec![0; bytes];
                    while let Ok(read @ 1..) = from.read(&mut buffer).await {
                        tokio::time::sleep(moment).await;
                        if to.write_all(&buffer[..read]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        }
    });
    port
}

/// A way to a server that breaks. Of the connections it takes, the first `cuts` end after so many bytes towards the
/// server.
pub async fn fragile(to: u16, cuts: usize, bytes: usize) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut taken = 0;
        loop {
            let (near, _) = listener.accept().await.unwrap();
            taken += 1;
            let mut left = if taken <= cuts { bytes } else { usize::MAX };
            tokio::spawn(async move {
                let Ok(far) = tokio::net::TcpStream::connect(("127.0.0.1", to)).await else { return };
                let ((mut near_read, mut near_write), (mut far_read, mut far_write)) =
                    (near.into_split(), far.into_split());
                let back = tokio::spawn(async move { tokio::io::copy(&mut far_read, &mut near_write).await });
                let mut buffer = vec![0; 32 << 10];
                while let Ok(read @ 1..) = near_read.read(&mut buffer).await {
                    if read >= left || far_write.write_all(&buffer[..read]).await.is_err() {
                        break;
                    }
                    left -= read;
                }
                back.abort();
            });
        }
    });
    port
}
