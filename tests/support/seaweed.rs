//! A private S3 server (SeaweedFS) in a temporary folder, started from the installed binary and gone with the test process.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};
use dbkeeper::base::secret::Secret;
use dbkeeper::store::s3::S3Options;

const ACCESS_KEY: &str = "dbkeeper-test";
const SECRET_KEY: &str = "a secret of the tests";
const BUCKET: &str = "dbkeeper-tests";
/// Another process may take a port between its choice and its use.
const STARTS: u32 = 3;

/// One running server. The wrapper shell waits for the end of its standard input, so the server ends with the test process
/// however that ends, and its folder goes with it.
pub struct Seaweed {
    /// Where it listens: `http://127.0.0.1:port`.
    pub endpoint: String,
    _lifeline: ChildStdin,
}

static SHARED: OnceLock<Option<Seaweed>> = OnceLock::new();
static NEXT: AtomicU32 = AtomicU32::new(0);

impl Seaweed {
    /// The server that all tests share: use prefixes or buckets of your own.
    pub fn shared() -> &'static Self {
        let started = SHARED.get_or_init(|| (0..STARTS).find_map(|_| Self::start()));
        started.as_ref().expect("the S3 server did not start")
    }

    /// A prefix of one's own, empty, in the shared bucket.
    pub fn options(&self) -> S3Options {
        let prefix = format!("prefix-{}/prod", NEXT.fetch_add(1, Ordering::Relaxed));
        self.options_in(BUCKET, &prefix)
    }

    /// A bucket of one's own, empty.
    pub fn bucket(&self) -> S3Options {
        let bucket = format!("bucket-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.create_bucket(&bucket);
        self.options_in(&bucket, "")
    }

    /// A bucket of one's own that can lock objects, empty.
    pub fn locking_bucket(&self) -> S3Options {
        let bucket = format!("locking-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let client = self.client();
        let call = client.create_bucket().bucket(&bucket).object_lock_enabled_for_bucket(true);
        let create = || runtime().block_on(call.send()).map(drop).expect("create a bucket");
        std::thread::scope(|scope| scope.spawn(create).join()).expect("no panic");
        self.options_in(&bucket, "prod")
    }

    /// How dbkeeper reaches a prefix, with a key that may do everything.
    pub fn options_in(&self, bucket: &str, prefix: &str) -> S3Options {
        let mut options = S3Options::new(bucket, prefix);
        options.endpoint = Some(self.endpoint.clone());
        options.region = Some("us-east-1".to_owned());
        options.path_style = true;
        options.access_key_id = Some(Secret::new(ACCESS_KEY.to_owned()));
        options.secret_access_key = Some(Secret::new(SECRET_KEY.to_owned()));
        options
    }

    /// A login that may read and list, and nothing else.
    pub fn reader() -> (&'static str, &'static str) {
        ("dbkeeper-test-reader", "another secret of the tests")
    }

    /// The bare client of the same server, to look at what dbkeeper left there.
    pub fn client(&self) -> aws_sdk_s3::Client {
        let config = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(&self.endpoint)
            .force_path_style(true)
            .region(Region::from_static("us-east-1"))
            .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test"));
        aws_sdk_s3::Client::from_conf(config.build())
    }

    fn create_bucket(&self, bucket: &str) {
        let client = self.client();
        let call = client.create_bucket().bucket(bucket);
        // A thread of its own: the caller may or may not be inside a runtime.
        let create = || runtime().block_on(call.send()).map(drop).expect("create a bucket");
        std::thread::scope(|scope| scope.spawn(create).join()).expect("no panic");
    }

    fn start() -> Option<Self> {
        let weed = weed();
        let folder = tempfile::Builder::new().prefix("dbk-s3-").tempdir().expect("a temporary folder").keep();
        std::fs::create_dir(folder.join("data")).expect("its data folder");
        let identity = format!(
            r#"{{"identities":[{{"name":"test","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],
            "actions":["Admin","Read","List","Tagging","Write"]}},{{"name":"reader","credentials":[{{"accessKey":"{}",
            "secretKey":"{}"}}],"actions":["Read","List"]}}]}}"#,
            Self::reader().0,
            Self::reader().1,
        );
        std::fs::write(folder.join("s3.json"), identity).expect("its identities");
        let ports = free_ports();
        let mut child = spawn(&weed, &folder, ports);
        let lifeline = child.stdin.take().expect("its standard input");
        let server = Self { endpoint: format!("http://127.0.0.1:{}", ports[0]), _lifeline: lifeline };
        server.is_ready(&mut child).then_some(server)
    }

    /// Waits until the bucket exists, or the server is gone.
    fn is_ready(&self, child: &mut Child) -> bool {
        let client = self.client();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                runtime().block_on(async {
                    for _ in 0..300 {
                        if client.create_bucket().bucket(BUCKET).send().await.is_ok() {
                            return true;
                        }
                        if child.try_wait().expect("ask for its end").is_some() {
                            return false;
                        }
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    false
                })
            });
            waiting.join().expect("no panic")
        })
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn spawn(weed: &Path, folder: &Path, ports: [u16; 8]) -> Child {
    // If the server dies, so does the wrapper: a port was taken. Its data is thrown away, so it is not asked to save it.
    let script = r#"folder=$1; sockets=$2; shift 2
        (sh -c 'echo $$ >pid; exec "$@"' sh "$@" >log 2>&1 </dev/null; kill $$ 2>/dev/null) &
        cat >/dev/null
        trap '' TERM
        kill -KILL "$(cat pid)"
        wait
        rm -rf "$folder" $sockets"#;
    let [s3, s3_grpc, filer, filer_grpc, volume, volume_grpc, master, master_grpc] = ports;
    // It puts these there whatever the temporary folder is, and leaves them.
    let inner = [("s3", s3_grpc), ("filer", filer_grpc), ("volume", volume_grpc), ("master", master_grpc)];
    let sockets = inner.map(|(part, port)| format!("/tmp/seaweedfs-{part}-grpc-{port}.sock")).join(" ");
    let mut wrapper = Command::new("setsid");
    wrapper.args(["sh", "-c", script, "sh"]).arg(folder).arg(sockets).arg(weed);
    wrapper.args(["-logtostderr=true", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-filer=true"]);
    wrapper.arg(format!("-dir={}", folder.join("data").display()));
    wrapper.arg(format!("-s3.config={}", folder.join("s3.json").display()));
    wrapper.arg(format!("-s3.localSocket={}", folder.join("s3.sock").display()));
    wrapper.arg(format!("-filer.localSocket={}", folder.join("filer.sock").display()));
    wrapper.args([format!("-s3.port={s3}"), format!("-s3.port.grpc={s3_grpc}")]);
    wrapper.args([format!("-filer.port={filer}"), format!("-filer.port.grpc={filer_grpc}")]);
    wrapper.args([format!("-volume.port={volume}"), format!("-volume.port.grpc={volume_grpc}")]);
    wrapper.args([format!("-master.port={master}"), format!("-master.port.grpc={master_grpc}")]);
    // No report leaves the machine, and nothing listens that the tests do not need.
    wrapper.args(["-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"]);
    wrapper.args(["-s3.autoCreateBucket=false", "-volume.max=2000", "-volume.minFreeSpace=1MiB"]);
    wrapper.args(["-master.volumeSizeLimitMB=512", "-master.electionTimeout=1s", "-volume.preStopSeconds=0"]);
    wrapper.current_dir(folder);
    wrapper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    wrapper.spawn().expect("start the S3 server")
}

fn free_ports() -> [u16; 8] {
    let listeners = [(); 8].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("its address").port())
}

fn weed() -> PathBuf {
    let weed = Path::new(env!("CARGO_MANIFEST_DIR")).join(".dev/venv/bin/weed");
    assert!(weed.exists(), "SeaweedFS is not installed: run ./dev test");
    weed
}
