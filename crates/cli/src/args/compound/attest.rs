//! `--provenance`, `--sbom` and `--attest`.

use build::{Attestations, Provenance, ProvenanceMode, ProvenanceRequest, ProvenanceVersion};

use super::options::{self, Accepted, Direction, boolean as on_or_off, given, options, text};
use super::{Fields, OptionError, boolean, fields};

/// BuildKit's default scanner, which the built-in one replaces.
const DEFAULT_GENERATOR: &str = "docker/buildkit-syft-scanner:stable-1";

/// The prefix of build arguments that ask for an attestation; the rest is its type.
const ARGUMENT: &str = "BUILDKIT_ATTEST_";

options! {
    /// An attestation that can be turned off.
    pub struct SwitchOptions {
        /// Turns the attestation off.
        disabled: bool = on_or_off("disabled"), "true";
    }
}

options! {
    /// `type=sbom`.
    pub struct SbomOptions {
        /// Image of a scanner; only BuildKit's own is accepted, which the built-in one replaces.
        _generator: Accepted = scanner("generator"), "docker/buildkit-syft-scanner:stable-1";
    }
}

options! {
    /// `type=provenance`.
    pub struct ProvenanceOptions {
        /// Extent of the provenance: min or max.
        mode: String = text("mode"), "min";
        /// Version of SLSA provenance: v1 or v0.2.
        version: String = text("version"), "v0.2";
        /// ID of the builder that the provenance names.
        builder_id: String = text("builder-id"), "https://example.com/builder";
        /// File name of the provenance in outputs that are files.
        file_name: String = given("filename"), "p.json";
        /// Says that the build is reproducible.
        reproducible: bool = on_or_off("reproducible"), "true";
        /// Leaves the provenance out of outputs that are files.
        inline_only: bool = on_or_off("inline-only"), "true";
        /// Says that the materials are complete.
        complete_materials: bool = on_or_off("complete-materials"), "true";
        /// Only with the value false: the usage of steps is not measured.
        _capture_usage: Accepted = no_usage("capture-usage") for Off, "false";
    }
}

/// The attestations that flags ask for. Build arguments may ask for more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskedAttestations {
    wanted: Attestations,
    /// The kinds that were named; true for those that are turned off.
    named: Vec<(String, bool)>,
}

/// The rule for a second value of a kind of attestation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// A kind that is off may be turned off again.
    IfOff,
    /// A kind is named at most once.
    Never,
}

impl AskedAttestations {
    /// Combines the values of `--attest`, `--provenance` and `--sbom`.
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
            read(flag, text)
                .and_then(|(kind, fields)| asked.add(kind, fields, Repeat::IfOff))
                .map_err(|error| error.within(format!("--{flag}")))?;
        }
        Ok(asked)
    }

    /// Asks for a kind with options, as `mode=max`.
    ///
    /// # Errors
    /// If an option is wrong, or the kind was asked for before.
    pub fn ask(&mut self, kind: &str, options: &str) -> Result<(), OptionError> {
        self.add(kind.to_owned(), fields_of(kind, options)?, Repeat::IfOff)
    }

    /// Asks for the kind that the field `type` names.
    ///
    /// # Errors
    /// If there is no `type`, or as [`Self::ask`].
    pub fn ask_typed(&mut self, mut fields: Fields) -> Result<(), OptionError> {
        let kind = take_type(&mut fields)?;
        self.add(kind, fields, Repeat::IfOff)
    }

    /// Adds those that build arguments as `BUILDKIT_ATTEST_SBOM` ask for.
    ///
    /// # Errors
    /// If a value is wrong, or a flag asks for the same; the error names the argument.
    pub fn with_build_args(
        mut self,
        build_args: &[(String, String)],
    ) -> Result<Attestations, OptionError> {
        for (name, value) in build_args {
            let Some(kind) = name.strip_prefix(ARGUMENT).map(str::to_lowercase) else { continue };
            fields_of(&kind, value)
                .and_then(|fields| self.add(kind, fields, Repeat::Never))
                .map_err(|error| error.within(format!("--build-arg {name}")))?;
        }
        Ok(self.wanted)
    }

    fn add(&mut self, kind: String, fields: Fields, repeat: Repeat) -> Result<(), OptionError> {
        let mut wanted = self.wanted.clone();
        let is_off = match kind.as_str() {
            "sbom" => {
                let (_, switch): (SbomOptions, SwitchOptions) =
                    options::read("type=sbom", fields, Direction::Export)?;
                wanted.sbom = !switch.is_off();
                switch.is_off()
            }
            "provenance" => {
                let (options, switch): (ProvenanceOptions, SwitchOptions) =
                    options::read("type=provenance", fields, Direction::Export)?;
                let request = provenance_of(options)?;
                wanted.provenance = (!switch.is_off()).then_some(request);
                switch.is_off()
            }
            other => {
                return Err(OptionError::UnknownType {
                    what: "attestation",
                    name: other.to_owned(),
                    expected: "sbom or provenance",
                });
            }
        };
        match self.named.iter().find(|(known, _)| *known == kind) {
            Some((_, true)) if is_off && repeat == Repeat::IfOff => return Ok(()),
            Some(_) => return Err(OptionError::DuplicateAttestation(kind)),
            None => self.named.push((kind, is_off)),
        }
        self.wanted = wanted;
        Ok(())
    }
}

impl SwitchOptions {
    fn is_off(&self) -> bool {
        self.disabled.unwrap_or(false)
    }
}

/// The fields of a kind of attestation; none if the text is empty. buildx says the kind again, as `type`.
fn fields_of(kind: &str, text: &str) -> Result<Fields, OptionError> {
    let mut parts = if text.is_empty() { Vec::new() } else { fields(text)? };
    parts.retain(|part| part.strip_prefix("type=") != Some(kind));
    Fields::of(&parts)
}

/// The type of an attestation, and its fields. `--sbom=true` is `type=sbom,disabled=false`.
fn read(flag: &str, text: &str) -> Result<(String, Fields), OptionError> {
    let parts = match (flag, boolean(text)) {
        ("attest", _) | (_, None) => fields(text)?,
        (_, Some(on)) => vec![format!("disabled={}", !on)],
    };
    let mut fields = Fields::of(&parts)?;
    let kind = match flag {
        "attest" => take_type(&mut fields)?,
        kind => kind.to_owned(),
    };
    Ok((kind, fields))
}

fn take_type(fields: &mut Fields) -> Result<String, OptionError> {
    // The words of buildx.
    let missing =
        || OptionError::Unusable("attestation type not specified, as in `type=sbom`".into());
    fields.take("type").ok_or_else(missing)
}

fn scanner(key: &str, text: &str) -> Result<Option<Accepted>, OptionError> {
    if matches!(text.trim_start_matches("docker.io/"), "" | DEFAULT_GENERATOR) {
        return Ok(Some(Accepted));
    }
    let reason = "scanners are not run from images; kiln lists the packages itself";
    Err(OptionError::refused(format!("{key}={text}"), reason))
}

fn no_usage(key: &str, text: &str) -> Result<Option<Accepted>, OptionError> {
    match on_or_off(key, text)? {
        Some(true) => Err(OptionError::NotSupported { option: format!("{key}={text}"), hint: "" }),
        _ => Ok(Some(Accepted)),
    }
}

fn provenance_of(options: ProvenanceOptions) -> Result<ProvenanceRequest, OptionError> {
    let mode = match options.mode.as_deref() {
        None | Some("" | "max" | "full") => ProvenanceMode::Max,
        Some("min") => ProvenanceMode::Min,
        Some(other) => return Err(OptionError::invalid("mode", other, "min or max")),
    };
    let version = match options.version.as_deref() {
        None | Some("" | "v1") => ProvenanceVersion::V1,
        Some("v0.2") => ProvenanceVersion::V02,
        Some(other) => {
            let expected = "a version of SLSA provenance: v1 or v0.2";
            return Err(OptionError::invalid("version", other, expected));
        }
    };
    let file_name = options.file_name.unwrap_or_else(|| "provenance.json".into());
    if file_name.contains('/') {
        return Err(OptionError::invalid("filename", file_name, "a file name without `/`"));
    }
    let wanted = Provenance {
        mode,
        version,
        builder_id: options.builder_id.unwrap_or_default(),
        reproducible: options.reproducible.unwrap_or(false),
    };
    Ok(ProvenanceRequest {
        wanted,
        file_name,
        inline_only: options.inline_only.unwrap_or(false),
        complete_materials: options.complete_materials.unwrap_or(false),
    })
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
    fn clients_may_say_the_kind_again() {
        let mut asked = AskedAttestations::default();
        asked.ask("provenance", "type=provenance,mode=max").unwrap();
        asked.ask("sbom", "type=sbom").unwrap();
        assert!(asked.ask("sbom", "type=provenance").is_err(), "another kind");
        let wanted = asked.with_build_args(&[]).unwrap();
        assert!(wanted.sbom && wanted.provenance.unwrap().wanted.mode == ProvenanceMode::Max);
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
