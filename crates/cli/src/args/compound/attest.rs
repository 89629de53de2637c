//! `--provenance`, `--sbom` and `--attest`.

use build::{Attestations, Provenance, ProvenanceMode, ProvenanceRequest, ProvenanceVersion};

use super::{Fields, OptionError, boolean, fields};

/// BuildKit's scanner, which is what the built-in one stands for.
const DEFAULT_GENERATOR: &str = "docker/buildkit-syft-scanner:stable-1";

/// A build argument that asks for an attestation: what follows is its type.
const ARGUMENT: &str = "BUILDKIT_ATTEST_";

/// The attestations that flags ask for. Build arguments may ask for more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskedAttestations {
    wanted: Attestations,
    /// The kinds that were named, and if they were turned off.
    named: Vec<(String, bool)>,
}

impl AskedAttestations {
    /// Puts the values of `--attest`, `--provenance` and `--sbom` together.
    ///
    /// # Errors
    /// If a value is wrong, or two flags ask for the same; the error names the flag.
    pub fn of_flags(
        attest: &[String],
        provenance: Option<&str>,
        sbom: Option<&str>,
    ) -> Result<Self, OptionError> {
        let mut asked = Self::default();
        let short = [("provenance", provenance), ("sbom", sbom)];
        let short = short.into_iter().filter_map(|(kind, value)| Some((kind, value?)));
        let long = attest.iter().map(|text| ("attest", text.as_str()));
        for (flag, text) in long.chain(short) {
            let wrong = |error: OptionError| error.within(format!("--{flag}"));
            let (kind, fields) = read(flag, text).map_err(wrong)?;
            asked.add(kind, fields).map_err(wrong)?;
        }
        Ok(asked)
    }

    /// Asks for a kind with options, as `mode=max`.
    ///
    /// # Errors
    /// If an option is wrong, or the kind was asked for before.
    pub fn ask(&mut self, kind: &str, options: &str) -> Result<(), OptionError> {
        let parts = if options.is_empty() { Vec::new() } else { fields(options)? };
        self.add(kind.to_owned(), Fields::of(&parts)?)
    }

    fn add(&mut self, kind: String, mut fields: Fields) -> Result<(), OptionError> {
        let is_off = fields.take_boolean("disabled", false)?;
        match self.named.iter().find(|(known, _)| *known == kind) {
            // Several flags may turn the same off.
            Some((_, true)) if is_off => return Ok(()),
            Some(_) => return Err(OptionError::DuplicateAttestation(kind)),
            None => {}
        }
        add(&mut self.wanted, &kind, fields, is_off)?;
        self.named.push((kind, is_off));
        Ok(())
    }

    /// Adds those that build arguments as `BUILDKIT_ATTEST_SBOM` ask for.
    ///
    /// # Errors
    /// If a value is wrong, or a flag asks for the same; the error names the argument.
    pub fn with_build_args(
        self,
        build_args: &[(String, String)],
    ) -> Result<Attestations, OptionError> {
        let Self { mut wanted, mut named } = self;
        for (name, value) in build_args {
            let Some(kind) = name.strip_prefix(ARGUMENT).map(str::to_lowercase) else { continue };
            let wrong = |error: OptionError| error.within(format!("--build-arg {name}"));
            if named.iter().any(|(known, _)| *known == kind) {
                return Err(wrong(OptionError::DuplicateAttestation(kind)));
            }
            let parts = if value.is_empty() {
                Vec::new()
            } else {
                fields(value).map_err(|error| wrong(error.into()))?
            };
            let mut fields = Fields::of(&parts).map_err(wrong)?;
            let is_off = fields.take_boolean("disabled", false).map_err(wrong)?;
            add(&mut wanted, &kind, fields, is_off).map_err(wrong)?;
            named.push((kind, is_off));
        }
        Ok(wanted)
    }
}

/// The type of an attestation, and its fields. `--sbom=true` is `type=sbom,disabled=false`.
fn read(flag: &str, text: &str) -> Result<(String, Fields), OptionError> {
    let parts = match (flag, boolean(text)) {
        ("attest", _) | (_, None) => fields(text)?,
        (_, Some(on)) => vec![format!("disabled={}", !on)],
    };
    let mut fields = Fields::of(&parts)?;
    let kind = match flag {
        // The words of buildx.
        "attest" => fields.take("type").ok_or_else(|| {
            OptionError::Unusable("attestation type not specified, as in `type=sbom`".into())
        })?,
        kind => kind.to_owned(),
    };
    Ok((kind, fields))
}

fn add(
    attestations: &mut Attestations,
    kind: &str,
    mut fields: Fields,
    is_disabled: bool,
) -> Result<(), OptionError> {
    match kind {
        "sbom" => {
            let generator = fields.take("generator").unwrap_or_default();
            if !matches!(generator.trim_start_matches("docker.io/"), "" | DEFAULT_GENERATOR) {
                return Err(OptionError::refused(
                    format!("generator={generator}"),
                    "scanners are not run from images; kiln lists the packages itself",
                ));
            }
            fields.nothing_left("type=sbom", &["generator", "disabled"])?;
            attestations.sbom = !is_disabled;
            Ok(())
        }
        "provenance" => {
            let request = provenance(fields)?;
            attestations.provenance = (!is_disabled).then_some(request);
            Ok(())
        }
        other => Err(OptionError::UnknownType {
            what: "attestation",
            name: other.to_owned(),
            expected: "sbom or provenance",
        }),
    }
}

fn provenance(mut fields: Fields) -> Result<ProvenanceRequest, OptionError> {
    let mode = match fields.take("mode").as_deref() {
        None | Some("" | "max" | "full") => ProvenanceMode::Max,
        Some("min") => ProvenanceMode::Min,
        Some(other) => return Err(OptionError::invalid("mode", other, "min or max")),
    };
    let version = match fields.take("version").as_deref() {
        None | Some("" | "v1") => ProvenanceVersion::V1,
        Some("v0.2") => ProvenanceVersion::V02,
        Some(other) => {
            let expected = "a version of SLSA provenance: v1 or v0.2";
            return Err(OptionError::invalid("version", other, expected));
        }
    };
    let file_name = fields.take("filename").filter(|name| !name.is_empty());
    let file_name = file_name.unwrap_or_else(|| "provenance.json".into());
    if file_name.contains('/') {
        return Err(OptionError::invalid("filename", file_name, "a file name without `/`"));
    }
    let wanted = Provenance {
        mode,
        version,
        builder_id: fields.take("builder-id").unwrap_or_default(),
        reproducible: fields.take_boolean("reproducible", false)?,
    };
    if fields.take_boolean("capture-usage", false)? {
        return Err(OptionError::NotSupported { option: "capture-usage=true".into(), hint: "" });
    }
    let request = ProvenanceRequest {
        wanted,
        file_name,
        inline_only: fields.take_boolean("inline-only", false)?,
        complete_materials: fields.take_boolean("complete-materials", false)?,
    };
    let known = [
        "mode",
        "version",
        "builder-id",
        "filename",
        "reproducible",
        "inline-only",
        "complete-materials",
        "disabled",
    ];
    fields.nothing_left("type=provenance", &known)?;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attestations(
        attest: &[String],
        provenance: Option<&str>,
        sbom: Option<&str>,
        build_args: &[(String, String)],
    ) -> Result<Attestations, OptionError> {
        AskedAttestations::of_flags(attest, provenance, sbom)?.with_build_args(build_args)
    }

    fn read(attest: &[&str], provenance: &str, sbom: &str) -> Result<Attestations, OptionError> {
        let attest: Vec<String> = attest.iter().map(|text| (*text).to_owned()).collect();
        let given = |text| Some(text).filter(|text: &&str| !text.is_empty());
        attestations(&attest, given(provenance), given(sbom), &[])
    }

    #[test]
    fn nothing_is_said_unless_it_is_asked_for() {
        assert_eq!(attestations(&[], None, None, &[]).unwrap(), Attestations::default());
        assert_eq!(read(&[], "false", "0").unwrap(), Attestations::default());
        let off = ["type=sbom,disabled=true", "type=provenance,disabled=true"];
        for (provenance, sbom) in [("", ""), ("false", "false"), ("disabled=true", "0")] {
            assert_eq!(read(&off, provenance, sbom).unwrap(), Attestations::default());
        }
        assert!(read(&off, "", "true").is_err() && read(&off, "min", "").is_err());
    }

    #[test]
    fn provenance_has_buildkits_options() {
        let all = read(&[], "true", "true").unwrap();
        assert_eq!(all.provenance.unwrap().wanted.mode, ProvenanceMode::Max);
        assert!(all.sbom);
        let request = read(
            &["type=provenance,mode=min,inline-only=true,version=v0.2,builder-id=https://a/b,filename=p.json,reproducible=true,complete-materials=1"],
            "",
            "generator=docker/buildkit-syft-scanner:stable-1",
        )
        .unwrap();
        assert!(request.sbom);
        let provenance = request.provenance.unwrap();
        assert_eq!(
            (provenance.wanted.mode, provenance.wanted.version),
            (ProvenanceMode::Min, ProvenanceVersion::V02)
        );
        assert!(provenance.inline_only && provenance.complete_materials);
        assert!(provenance.wanted.reproducible);
        assert_eq!(
            (provenance.wanted.builder_id.as_str(), provenance.file_name.as_str()),
            ("https://a/b", "p.json")
        );
    }

    #[test]
    fn build_arguments_ask_too() {
        let argument = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let asked = argument("BUILDKIT_ATTEST_PROVENANCE", "mode=min");
        let all = attestations(&[], None, None, &asked).unwrap();
        assert_eq!(all.provenance.unwrap().wanted.mode, ProvenanceMode::Min);
        assert!(attestations(&[], None, None, &argument("BUILDKIT_ATTEST_SBOM", "")).unwrap().sbom);
        let error = attestations(&[], None, Some("true"), &argument("BUILDKIT_ATTEST_SBOM", ""));
        assert!(error.unwrap_err().to_string().contains("--build-arg BUILDKIT_ATTEST_SBOM"));
        let error = attestations(&[], None, None, &argument("BUILDKIT_ATTEST_VEX", ""));
        assert!(error.unwrap_err().to_string().contains("`vex`"));
        assert!(read(&[""], "", "").unwrap_err().to_string().contains("`--attest`"));
    }

    #[test]
    fn wrong_options_are_named() {
        for (attest, provenance, sbom, word) in [
            ("sbom", "", "", "not `key=value`"),
            ("mode=max", "", "", "type not specified"),
            ("type=vex", "", "", "`vex`"),
            ("type=sbom", "", "true", "duplicate attestation field sbom"),
            ("", "mode=most", "", "`mode=most`"),
            ("", "version=v2", "", "`version=v2`"),
            ("", "filename=../x", "", "without `/`"),
            ("", "colour=red", "", "`colour` is not an option of type=provenance"),
            ("", "capture-usage=true", "", "`capture-usage=true` is not supported"),
            ("", "", "generator=me/scanner", "`generator=me/scanner`"),
        ] {
            let attest: Vec<&str> = [attest].into_iter().filter(|text| !text.is_empty()).collect();
            let error = read(&attest, provenance, sbom).unwrap_err().to_string();
            assert!(error.contains(word), "{attest:?} {provenance} {sbom}: {error}");
        }
    }
}
