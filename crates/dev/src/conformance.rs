//! Builds the recorded images with the release binary and compares the results.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use fixtures::vectors::{self, Verdict};
use fixtures::{Access, DockerRegistry, Kiln};

use crate::{packages, table::Table, tools};

pub fn run(args: &[String]) -> Result<()> {
    let mut args = args.to_vec();
    let binary = tools::take_value(&mut args, "--kiln")?.map(PathBuf::from);
    let verbose = tools::take_flag(&mut args, "--verbose");
    packages::need(&[packages::REGISTRY, packages::BUSYBOX])?;
    let binary = match binary {
        Some(binary) => binary,
        None => tools::release_binary()?,
    };
    let cases = vectors::cases(&args)?;
    let gaps = vectors::known_gaps()?;
    let registry = DockerRegistry::start(Access::Open)?;
    registry.put_busybox()?;
    let outcomes = vectors::run(&Kiln::new(binary), &registry, &cases)?;
    let mut table = Table::new(&["case", "ms", "result"]);
    let (mut passed, mut failed) = (0, 0);
    for outcome in &outcomes {
        let known = gaps.get(&outcome.name);
        let result = match &outcome.verdict {
            Verdict::Pass => {
                passed += 1;
                known.map_or("as recorded".to_owned(), |_| {
                    "as recorded (remove it from skipped.txt)".to_owned()
                })
            }
            Verdict::Skipped(reason) => format!("skipped: {reason}"),
            Verdict::Fail(_) if known.is_some() => {
                format!("not covered yet: {}", known.map_or("", |reason| reason))
            }
            Verdict::Fail(_) => {
                failed += 1;
                "DIFFERENT".to_owned()
            }
        };
        table.row(vec![outcome.name.clone(), outcome.time.as_millis().to_string(), result]);
        let shown = verbose || known.is_none();
        if let (Verdict::Fail(differences), true) = (&outcome.verdict, shown) {
            for difference in differences {
                table.row(vec![format!("    {difference}")]);
            }
        }
    }
    table.print();
    println!("{passed} of {} cases pass", outcomes.len());
    if failed == 0 {
        Ok(())
    } else {
        Err(anyhow!("{failed} cases came out otherwise than recorded"))
    }
}
