//! The gateway under test: the real binary, a folder of manifests, a settings file.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use super::{
    Client, Response, await_until, everything_to, free_port, gateway_yaml, loopback, routes_yaml,
    service_yaml,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pingress");

/// How to start a gateway.
#[derive(Default)]
pub struct Start {
    /// File name and text.
    pub files: Vec<(String, String)>,
    /// Lines below `gateway:` in the settings file, indented by two.
    pub settings: String,
    /// Declared ports beside 80.
    pub ports: Vec<u16>,
    pub arguments: Vec<String>,
    /// Of the process.
    pub variables: Vec<(String, String)>,
    /// Run from a copy, so that the test can put another program in its place.
    pub with_own_copy: bool,
}

impl Start {
    pub fn with(files: &[(&str, String)]) -> Self {
        let files = files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), text.clone()))
            .collect();
        Self {
            files,
            ..Self::default()
        }
    }

    /// A Gateway for every host, and a VirtualService of this name that sends one host to the
    /// service `NAME.internal`, whose endpoint has this port.
    pub fn one_service(name: &str, host: &str, port: u16) -> Self {
        let service = format!("{name}.internal");
        Self::one_service_by(name, host, port, &everything_to(&service))
    }

    /// The same with rules of its own.
    pub fn one_service_by(name: &str, host: &str, port: u16, http: &str) -> Self {
        let service = service_yaml(&format!("{name}.internal"), &[(port, "v1")]);
        Self::with(&[
            ("gateway.yaml", gateway_yaml(&["*"])),
            ("service.yaml", service),
            ("routes.yaml", routes_yaml(name, &[host], http)),
        ])
    }

    /// One more file of manifests.
    pub fn file(mut self, name: &str, text: String) -> Self {
        self.files.push((name.to_owned(), text));
        self
    }

    pub fn settings(mut self, lines: &str) -> Self {
        self.settings = lines.to_owned();
        self
    }

    pub fn port(mut self, declared: u16) -> Self {
        self.ports.push(declared);
        self
    }

    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Sets an environment variable.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn with_own_copy(mut self) -> Self {
        self.with_own_copy = true;
        self
    }

    /// Starts and waits until the gateway is ready.
    pub fn ready(self) -> Gateway {
        let gateway = self.unready();
        await_until("the gateway is ready", || {
            (gateway.try_status("/healthz/ready") == Some(200)).then_some(())
        });
        gateway
    }

    /// Starts and waits only until the process answers on its status port.
    pub fn unready(self) -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        let manifests = folder.path().join("manifests");
        std::fs::create_dir(&manifests).unwrap();
        for (name, text) in &self.files {
            std::fs::write(manifests.join(name), text).unwrap();
        }
        let (admin, status, metrics) = (free_port(), free_port(), free_port());
        let mut ports = vec![(80, free_port())];
        ports.extend(self.ports.iter().map(|declared| (*declared, free_port())));
        let map: Vec<String> = ports
            .iter()
            .map(|(from, to)| format!("{from}: {to}"))
            .collect();
        let log = folder.path().join("access.log");
        let mesh = if self.settings.contains("  mesh:") {
            String::new()
        } else {
            format!("  mesh: {{accessLogFile: \"{}\"}}\n", log.display())
        };
        let settings = folder.path().join("settings.yaml");
        std::fs::write(
            &settings,
            format!(
                "threads: 2\ngateway:\n  ports: {{{}}}\n  bind: [127.0.0.1]\n  admin: {{bind: \"127.0.0.1:{admin}\"}}\n  status: {{bind: \"127.0.0.1:{status}\"}}\n  metrics: {{bind: \"127.0.0.1:{metrics}\"}}\n  upgrade: {{folder: \"{}\"}}\n{mesh}{}",
                map.join(", "),
                folder.path().join("upgrade").display(),
                self.settings
            ),
        )
        .unwrap();
        let program = match self.with_own_copy {
            true => {
                let copy = folder.path().join("pingress");
                install(Path::new(PROGRAM), &copy);
                copy
            }
            false => PROGRAM.into(),
        };
        let lines = Arc::new(Mutex::new(Vec::new()));
        let arguments = self.arguments;
        let variables = self.variables;
        let gateway = Gateway {
            child: spawn(
                &program, &settings, &arguments, &variables, &manifests, &lines,
            ),
            arguments,
            variables,
            program,
            successors: Mutex::default(),
            folder,
            manifests,
            log,
            ports,
            admin,
            status,
            metrics,
            lines,
        };
        await_until("the gateway's status port answers", || {
            gateway.try_status("/healthz/ready").map(drop)
        });
        gateway
    }
}

/// A running gateway; killed when dropped.
pub struct Gateway {
    child: Child,
    pub program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    /// Processes that took over from the first.
    successors: Mutex<Vec<u32>>,
    pub folder: tempfile::TempDir,
    /// The folder given to `--config`.
    pub manifests: PathBuf,
    pub log: PathBuf,
    ports: Vec<(u16, u16)>,
    admin: u16,
    status: u16,
    metrics: u16,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    /// Where declared port 80 listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr_of(80)
    }

    pub fn addr_of(&self, declared: u16) -> SocketAddr {
        loopback(
            self.ports
                .iter()
                .find(|(from, _)| *from == declared)
                .unwrap()
                .1,
        )
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn client(&self) -> Client {
        Client::connect(self.addr())
    }

    /// GET on a fresh connection.
    pub fn get(&self, host: &str, path: &str) -> Response {
        self.client().get(host, path, &[])
    }

    /// Writes or replaces a manifest as editors and kubectl do: a new file, renamed into place.
    pub fn write(&self, name: &str, text: &str) {
        let temporary = self.folder.path().join("next");
        std::fs::write(&temporary, text).unwrap();
        std::fs::rename(&temporary, self.manifests.join(name)).unwrap();
    }

    /// GET of the admin endpoint.
    pub fn admin(&self, path: &str) -> Response {
        Client::connect(loopback(self.admin)).get(
            &format!("127.0.0.1:{}", self.admin),
            path,
            &["Connection: close"],
        )
    }

    pub fn admin_addr(&self) -> SocketAddr {
        loopback(self.admin)
    }

    pub fn metrics(&self) -> String {
        Client::connect(loopback(self.metrics))
            .get("localhost", "/stats/prometheus", &["Connection: close"])
            .body
    }

    /// Status of a path on the readiness port; `None` if nobody listens.
    pub fn try_status(&self, path: &str) -> Option<u16> {
        std::net::TcpStream::connect(loopback(self.status)).ok()?;
        let mut client = Client::connect(loopback(self.status));
        client.write(
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        );
        client.read().map(|response| response.status)
    }

    /// Waits for a line of the access log that contains a text.
    pub fn await_log(&self, text: &str) -> String {
        await_until(&format!("the access log says {text}"), || {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            log.lines()
                .find(|line| line.contains(text))
                .map(ToOwned::to_owned)
        })
    }

    /// Waits for a line on standard error that contains a text.
    pub fn await_stderr(&self, text: &str) -> String {
        await_until(&format!("standard error says {text}"), || {
            self.lines
                .lock()
                .unwrap()
                .iter()
                .find(|line| line.contains(text))
                .cloned()
        })
    }

    /// Waits until a GET gives a status; other answers are other states on the way.
    pub fn await_status(&self, host: &str, path: &str, status: u16) -> Response {
        await_until(&format!("{host}{path} answers {status}"), || {
            let response = self.get(host, path);
            (response.status == status).then_some(response)
        })
    }

    /// Signals the process that was started first.
    pub fn signal(&self, name: &str) {
        assert!(signal(self.pid(), name));
    }

    /// Starts the gateway once more, after its process has ended.
    pub fn start_again(&mut self) {
        let (program, settings) = (&self.program, self.settings());
        self.child = spawn(
            program,
            &settings,
            &self.arguments,
            &self.variables,
            &self.manifests,
            &self.lines,
        );
        await_until("the gateway is ready again", || {
            (self.try_status("/healthz/ready") == Some(200)).then_some(())
        });
    }

    /// Has a process that took over killed at the end of the test.
    pub fn adopt(&self, pid: u32) {
        self.successors.lock().unwrap().push(pid);
    }

    pub fn settings(&self) -> PathBuf {
        self.folder.path().join("settings.yaml")
    }

    /// Waits until the gateway takes upgrades, and runs `pingress upgrade`: whether it succeeded, and all it said.
    pub fn upgrade(&self) -> (bool, String) {
        await_until("the gateway takes upgrades", || {
            UnixStream::connect(self.folder.path().join("upgrade/upgrade.sock")).ok()
        });
        self.try_upgrade()
    }

    /// Runs `pingress upgrade`, whether the gateway takes it or not.
    pub fn try_upgrade(&self) -> (bool, String) {
        let output = Command::new(PROGRAM)
            .arg("upgrade")
            .arg("--settings")
            .arg(self.settings())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let started = said.split("as process ").nth(1);
        let pid = started.and_then(|rest| rest.lines().next()?.parse::<u32>().ok());
        self.successors.lock().unwrap().extend(pid);
        (output.status.success(), said)
    }

    /// Waits until the process has ended.
    pub fn await_exit(&mut self) -> ExitStatus {
        await_until("the gateway ends", || self.child.try_wait().unwrap())
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for line in self.lines.lock().unwrap().iter() {
                eprintln!("gateway: {line}");
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in self.successors.lock().unwrap().iter() {
            signal(*pid, "KILL");
        }
    }
}

/// Copies a program. By another process: one that is being started by a test beside this one would
/// inherit a handle for writing, with which no program can be run.
pub fn install(program: &Path, place: &Path) {
    let copied = Command::new("cp").arg(program).arg(place).status();
    assert!(copied.unwrap().success());
}

/// Whether the process was there to be signalled.
fn signal(pid: u32, name: &str) -> bool {
    Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

/// Starts the program and collects what it says on standard error.
fn spawn(
    program: &Path,
    settings: &Path,
    arguments: &[String],
    variables: &[(String, String)],
    manifests: &Path,
    lines: &Arc<Mutex<Vec<String>>>,
) -> Child {
    let mut child = Command::new(program)
        .arg("run")
        .arg("--settings")
        .arg(settings)
        .args(arguments)
        .envs(variables.iter().cloned())
        .arg("--config")
        .arg(manifests)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let sink = lines.clone();
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            sink.lock().unwrap().push(line);
        }
    });
    child
}
