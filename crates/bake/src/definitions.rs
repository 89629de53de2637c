//! All files together, evaluated: groups and targets, each before what it inherits.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::compose::{self, Project};
use crate::definition::{Definition, NamedBlock};
use crate::error::{Location, Within as _, invalid};
use crate::matrix::combinations;
use crate::target::Target;
use crate::value::text;
use crate::{BakeError, DefinitionFile, Inputs, MAX_FILE_SIZE, ProjectFiles};

/// The groups and targets of all files.
#[derive(Debug, Default)]
pub struct Definitions {
    pub(crate) groups: BTreeMap<String, Vec<String>>,
    pub(crate) targets: BTreeMap<String, EvaluatedTarget>,
    /// Names of targets in the order of the files.
    pub(crate) order: Vec<String>,
    definition: Definition,
    notes: Vec<String>,
}

/// A target without what it inherits.
#[derive(Clone, Debug, Default)]
pub(crate) struct EvaluatedTarget {
    pub inherits: Vec<String>,
    pub target: Target,
}

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// A compose file.
    Compose,
    /// A bake file in JSON.
    Json,
    /// A bake file in HCL.
    Hcl,
}

impl FileFormat {
    /// The format by the file's extension, or else by its text.
    pub fn detect(file: &DefinitionFile) -> Self {
        let extension = Path::new(&file.name).extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_lowercase).as_deref() {
            Some("yaml" | "yml") => Self::Compose,
            Some("json") => Self::Json,
            Some("hcl") => Self::Hcl,
            _ if compose::is_compose(&file.text) => Self::Compose,
            _ if file.text.trim_start().starts_with('{') => Self::Json,
            _ => Self::Hcl,
        }
    }
}

/// A row of `--list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRow {
    /// The name.
    pub name: String,
    /// A variable's default.
    pub value: Option<String>,
    /// The description; a group's targets.
    pub description: String,
}

impl Definitions {
    /// Reads and evaluates files.
    ///
    /// # Errors
    /// If a file cannot be read or evaluated.
    pub fn load(inputs: Inputs, files: &dyn ProjectFiles) -> Result<Self, BakeError> {
        let Inputs { files: sources, variables, environment } = inputs;
        let definition = Definition::new(variables, environment);
        let mut all = Self { definition, ..Self::default() };
        let mut project: Option<Project<'_>> = None;
        for source in &sources {
            if source.text.len() > MAX_FILE_SIZE {
                let error = BakeError::Limit("it is larger than 4 MiB");
                return Err(error.within(Location::File(source.name.clone())));
            }
            let added = match FileFormat::detect(source) {
                FileFormat::Compose => {
                    let project = match &mut project {
                        Some(project) => project,
                        None => project.insert(all.project(files)?),
                    };
                    project.add(&source.name, &source.text)
                }
                FileFormat::Json => all.definition.add_json(&source.text),
                FileFormat::Hcl => all.definition.add_hcl(&source.text),
            };
            added.within(|| Location::File(source.name.clone()))?;
        }
        let is_project = project.is_some();
        let services = project.map(Project::targets).transpose()?.unwrap_or_default();
        all.notes.extend(services.notes);
        let names: Vec<String> = services.targets.iter().map(|(name, _)| name.clone()).collect();
        for (name, target) in services.targets {
            all.add(name, EvaluatedTarget { inherits: Vec::new(), target })?;
        }
        let definition = std::mem::take(&mut all.definition);
        let evaluated = all.evaluate(&definition);
        all.definition = definition;
        evaluated?;
        if is_project && !all.groups.contains_key("default") {
            all.groups.insert("default".into(), names);
        }
        Ok(all)
    }

    fn project<'f>(&self, files: &'f dyn ProjectFiles) -> Result<Project<'f>, BakeError> {
        Project::new(&self.definition.environment, &self.definition.given, files)
    }

    /// The caller's environment.
    pub(crate) fn environment(&self) -> &BTreeMap<String, String> {
        &self.definition.environment
    }

    /// Remarks for the user: attributes without effect, variables without a value.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Groups and targets for `--list`.
    pub fn list_targets(&self) -> Vec<ListRow> {
        let row =
            |name: &String, description| ListRow { name: name.clone(), value: None, description };
        let groups = self.groups.iter().map(|(name, members)| row(name, members.join(", ")));
        let targets = self.order.iter().map(|name| {
            let description = self.targets[name].target.description().unwrap_or_default();
            row(name, description.to_owned())
        });
        groups.chain(targets).collect()
    }

    /// Variables for `--list`.
    ///
    /// # Errors
    /// If a default cannot be evaluated.
    pub fn list_variables(&self) -> Result<Vec<ListRow>, BakeError> {
        let variables = self.definition.variables.iter();
        let rows = variables.filter(|(_, variable)| variable.is_block).map(|(name, variable)| {
            let value = match &variable.default {
                Some(default) => match self.definition.evaluate(default, &[])? {
                    Value::String(text) => text,
                    other => other.to_string(),
                },
                None => "<null>".into(),
            };
            let description = variable.description.clone().unwrap_or_default();
            Ok(ListRow { name: name.clone(), value: Some(value), description })
        });
        rows.collect()
    }

    /// Merges a target on top of those with its name.
    fn add(&mut self, name: String, evaluated: EvaluatedTarget) -> Result<(), BakeError> {
        match self.targets.get_mut(&name) {
            Some(known) => {
                known.target.merge(&evaluated.target)?;
                known.inherits.extend(evaluated.inherits);
            }
            None => {
                self.order.push(name.clone());
                self.targets.insert(name, evaluated);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, definition: &Definition) -> Result<(), BakeError> {
        for block in &definition.targets {
            self.evaluate_target(definition, block)
                .within(|| Location::Target(block.name.clone()))?;
        }
        for block in &definition.groups {
            let targets =
                group_targets(definition, block).within(|| Location::Group(block.name.clone()))?;
            self.groups.entry(block.name.clone()).or_default().extend(targets);
        }
        Ok(())
    }

    fn evaluate_target(
        &mut self,
        definition: &Definition,
        block: &NamedBlock,
    ) -> Result<(), BakeError> {
        let Some(matrix) = block.get("matrix") else {
            if block.get("name").is_some() {
                return Err(invalid!("`name` is for targets with a `matrix`"));
            }
            check_name(&block.name)?;
            let evaluated = self.evaluate_attributes(definition, block, &[])?;
            return self.add(block.name.clone(), evaluated);
        };
        let Some(name) = block.get("name") else {
            return Err(invalid!("a `matrix` needs a `name`, as `name = \"app-${{tgt}}\"`"));
        };
        let mut made = Vec::new();
        for locals in combinations(&definition.evaluate(matrix, &[])?)? {
            let name = text(&definition.evaluate(name, &locals)?)?;
            check_name(&name)?;
            let evaluated = self.evaluate_attributes(definition, block, &locals)?;
            made.push(name.clone());
            self.add(name, evaluated)?;
        }
        self.groups.insert(block.name.clone(), made);
        Ok(())
    }

    fn evaluate_attributes(
        &mut self,
        definition: &Definition,
        block: &NamedBlock,
        locals: &[(String, Value)],
    ) -> Result<EvaluatedTarget, BakeError> {
        definition.count_target()?;
        let mut evaluated = EvaluatedTarget::default();
        for (key, value) in &block.attributes {
            if matches!(key.as_str(), "matrix" | "name") {
                continue;
            }
            if key != "inherits" && !Target::is_known(key) {
                self.notes.push(format!(
                    "target `{}`: there is no attribute `{key}`: it changes nothing",
                    block.name
                ));
                continue;
            }
            let value = definition.evaluate(value, locals).within(|| Location::Key(key.clone()))?;
            match key.as_str() {
                "resources" => self.notes.push(format!(
                    "target `{}`: `resources`: no limit is set: steps have those of the job that kiln runs in",
                    block.name
                )),
                "inherits" => evaluated.inherits = texts(&value)?,
                key => evaluated.target.set(key, value)?,
            }
        }
        Ok(evaluated)
    }
}

fn group_targets(definition: &Definition, block: &NamedBlock) -> Result<Vec<String>, BakeError> {
    let mut targets = Vec::new();
    for (key, value) in &block.attributes {
        let value = definition.evaluate(value, &[])?;
        match key.as_str() {
            "targets" => targets = texts(&value)?,
            "description" => {}
            _ => return Err(BakeError::Unknown { kind: "attribute", name: key.clone() }),
        }
    }
    Ok(targets)
}

/// Refuses names that buildx refuses.
fn check_name(name: &str) -> Result<(), BakeError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || !name.chars().all(fits) {
        return Err(invalid!("`{name}` is no name: letters, digits, `_` and `-` make one"));
    }
    Ok(())
}

fn texts(value: &Value) -> Result<Vec<String>, BakeError> {
    let items = value.as_array().ok_or_else(|| BakeError::wrong_type(value, "list"))?;
    items.iter().map(text).collect()
}
