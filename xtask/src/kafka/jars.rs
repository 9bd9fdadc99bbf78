//! Fetching Apache Kafka: Maven resolves it and copies its jars into a folder, once per version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::background::tail;
use crate::lock::Lock;
use crate::setup::{self, Need};
use crate::shell::{self, Failure};

/// The pinned release of Apache Kafka.
pub const KAFKA_VERSION: &str = "4.2.0";
/// Built for the one Scala version Kafka 4 has.
const SCALA_VERSION: &str = "2.13";
/// The SLF4J 1.7 binding: Kafka's own dependencies leave it to the distribution, and without it nothing is logged.
const LOG4J_VERSION: &str = "2.25.1";
/// Pinned, so that the default of the installed Maven does not matter.
const DEPENDENCY_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

/// The folder with Kafka's jars below `base`, fetched when they are not there yet.
pub fn ensure(base: &Path) -> Result<PathBuf> {
    let jars = base.join(format!("jars-{KAFKA_VERSION}"));
    if jars.is_dir() {
        return Ok(jars);
    }
    let _lock = Lock::take(&base.join("jars.lock"), "another command is fetching Apache Kafka")?;
    if jars.is_dir() {
        return Ok(jars);
    }
    setup::ensure(&[Need::Java, Need::Maven])?;

    let work = base.join("maven");
    fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
    let partial = work.join("jars");
    remove_dir(&partial)?;
    let pom = work.join("pom.xml");
    fs::write(&pom, pom_xml()).with_context(|| format!("writing {}", pom.display()))?;
    let log = work.join("maven.log");
    let log_file = fs::File::create(&log).with_context(|| format!("writing {}", log.display()))?;

    let mut maven = Command::new("mvn");
    maven
        .args(["--batch-mode", "--quiet", "--strict-checksums", "--file"])
        .arg(&pom)
        .arg(format!("{DEPENDENCY_PLUGIN}:copy-dependencies"))
        .arg("-DincludeScope=runtime")
        .arg(format!("-DoutputDirectory={}", partial.display()))
        .stdout(log_file.try_clone().context("sharing Maven's log")?)
        .stderr(log_file)
        .stdin(Stdio::null());
    if let Some(home) = java_home() {
        maven.env("JAVA_HOME", home);
    }
    let label = format!("fetching Apache Kafka {KAFKA_VERSION} with Maven (45 MB, once)");
    if let Err(error) = shell::run_with_progress(&mut maven, &label) {
        shell::check_interrupt()?;
        return Err(Failure::error(
            1,
            format!(
                "{error:#}\n{}\nThe whole of it: {}. When this is the network, try again; a mirror or proxy goes \
                 into Maven's own settings.xml.",
                tail(&log, 15),
                log.display()
            ),
        ));
    }
    // Under its final name only when complete.
    fs::rename(&partial, &jars)
        .with_context(|| format!("moving {} to {}", partial.display(), jars.display()))?;
    Ok(jars)
}

/// The Java that was found good enough, for Maven's own use too: the one on `PATH` may be older.
fn java_home() -> Option<PathBuf> {
    let java = fs::canonicalize(setup::java()?).ok()?;
    Some(java.parent()?.parent()?.to_owned())
}

fn pom_xml() -> String {
    format!(
        r#"<project>
  <!-- Written by `cargo xtask kafka up`; only lists what Maven is to fetch. -->
  <modelVersion>4.0.0</modelVersion>
  <groupId>tickgate</groupId>
  <artifactId>kafka-jars</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_{SCALA_VERSION}</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>{LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"#
    )
}

/// Removes a folder and all in it; one that is not there is fine.
pub fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}
