//! Downloads one file: goes on where it stopped, takes no byte more than the Hub announced, and checks size and hash.
//!
//! The `hf-hub` crate can download, too, but sends the account's token to the hosts to which the Hub redirects, uses names that
//! a server gives as paths, and checks no size and no hash.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, IsTerminal, Read, Seek};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};
use undertone_files::Sha256Writer;
use ureq::Agent;
use ureq::config::RedirectAuthHeaders;

use crate::listing::Listed;

/// How often a download that broke off goes on, and the pause before, which doubles each time.
const RETRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(300);
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

const GOES_ON: &str = "run the same command again: it goes on where the download stopped";

/// A file to download.
pub(crate) struct Download<'a> {
    pub(crate) url: String,
    pub(crate) token: Option<&'a str>,
    pub(crate) file: &'a Listed,
    /// Where it is kept.
    pub(crate) blob: &'a Path,
}

/// Why there is no file.
pub(crate) struct Failed {
    pub(crate) cause: String,
    pub(crate) hint: &'static str,
}

impl Download<'_> {
    /// Downloads the file, unless it is there.
    pub(crate) fn run(&self) -> Result<(), Failed> {
        if self.blob.exists() {
            return Ok(());
        }
        let part = self.blob.with_extension("part");
        let disk = |error: io::Error| Failed { cause: format!("cannot be written: {error}"), hint: GOES_ON };
        std::fs::create_dir_all(self.blob.parent().expect("it lies in a folder")).map_err(disk)?;
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&part).map_err(disk)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                let cause = "is being downloaded by another process".to_owned();
                return Err(Failed { cause, hint: "wait for it, and run the same command again" });
            }
            // Some file systems have no locks.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let agent: Agent = Agent::config_builder()
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_recv_response(Some(PATIENCE))
            .timeout_connect(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .build()
            .into();
        let bar =
            ProgressBar::with_draw_target(Some(self.file.size), target()).with_message(self.file.rfilename.clone());
        let mut attempt = 0;
        while let Err(broken) = self.go_on(&agent, &mut file, &bar) {
            let is_refused = matches!(broken, ureq::Error::StatusCode(400..500));
            if attempt == RETRIES || is_refused {
                return Err(Failed { cause: format!("cannot be downloaded: {broken}"), hint: GOES_ON });
            }
            std::thread::sleep(PAUSE * 2_u32.pow(attempt));
            attempt += 1;
        }
        bar.finish_and_clear();
        self.check(&mut file, &part)?;
        file.sync_all().and_then(|()| std::fs::rename(&part, self.blob)).map_err(disk)
    }

    /// Downloads what the file lacks.
    fn go_on(&self, agent: &Agent, file: &mut File, bar: &ProgressBar) -> Result<(), ureq::Error> {
        let size = self.file.size;
        let mut done = file.seek(io::SeekFrom::End(0))?;
        if done > size {
            file.set_len(0)?;
            done = file.seek(io::SeekFrom::Start(0))?;
        }
        if done == size {
            return Ok(());
        }
        let mut request = agent.get(&self.url).header("Range", format!("bytes={done}-"));
        if let Some(token) = self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let answer = request.call()?;
        if answer.status() != 206 && done > 0 {
            // The server sends the whole file again.
            file.set_len(0)?;
            done = file.seek(io::SeekFrom::Start(0))?;
        }
        bar.set_position(done);
        let mut body = bar.wrap_read(answer.into_body().into_reader()).take(size - done);
        match io::copy(&mut body, file)? {
            count if count == size - done => Ok(()),
            _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }

    /// Compares the hash, if the Hub gives the SHA-256. A wrong file is removed.
    fn check(&self, file: &mut File, part: &Path) -> Result<(), Failed> {
        let failed = |error: io::Error| Failed { cause: format!("cannot be read again: {error}"), hint: GOES_ON };
        let Some(expected) = self.file.sha256() else { return Ok(()) };
        let mut hash = Sha256Writer::default();
        file.seek(io::SeekFrom::Start(0)).and_then(|_| io::copy(file, &mut hash)).map_err(failed)?;
        let (_, found) = hash.finish();
        if found == expected {
            return Ok(());
        }
        std::fs::remove_file(part).map_err(failed)?;
        Err(Failed {
            cause: format!("has the SHA-256 {found}, and not {expected}, as the Hub describes it; it was removed"),
            hint: "run the same command again; if this happens twice, something between here and the Hub changes files",
        })
    }
}

/// Progress is for people alone.
fn target() -> ProgressDrawTarget {
    if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}
