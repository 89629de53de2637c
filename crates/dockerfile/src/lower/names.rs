//! Display names of steps.

use oci::Platform;

use super::Lowerer;
use crate::expand::{Env, Lex, Variables};

impl Lowerer<'_> {
    /// `[stage 2/5] text`, with its addresses as they may be shown; counts the stage's steps.
    pub(super) fn step_name(&mut self, stage: usize, text: &str, onbuild: bool) -> String {
        let text = oci::shown_text(text);
        let platform = self.request.multi_platform.then(|| self.platform_of(stage));
        let state = &mut self.states[stage];
        if state.steps_total == 0 {
            return text;
        }
        state.steps_named += 1;
        let mut name = String::from("[");
        if let Some(platform) = platform {
            name.push_str(&format!("{platform}{} ", cross_target(&platform, &state.env)));
        }
        if !state.display.is_empty() {
            name.push_str(&state.display);
            name.push(' ');
        }
        let (index, total) = (state.steps_named, state.steps_total);
        let width = total.to_string().len();
        let trigger = if onbuild { "ONBUILD " } else { "" };
        format!("{name}{index:width$}/{total}] {trigger}{text}")
    }
}

/// An instruction's text as progress shows it: keyword in capitals, variables resolved.
pub(super) fn instruction_text(lex: &Lex, text: &str, env: &dyn Variables) -> String {
    let text = lex.word(text, env).unwrap_or_else(|_| text.into());
    match text.split_once(' ') {
        Some((keyword, rest)) => format!("{} {rest}", keyword.to_uppercase()),
        None => text.to_uppercase(),
    }
}

/// `->arm64` where a stage that runs on one platform builds for another.
fn cross_target(platform: &Platform, env: &Env) -> String {
    let Some(target) = declared_target(platform, env) else { return String::new() };
    match target.os == platform.os {
        true if target.architecture == platform.architecture => String::new(),
        true if target.variant.is_empty() => format!("->{}", target.architecture),
        true => format!("->{}/{}", target.architecture, target.variant),
        false => format!("->{target}"),
    }
}

fn declared_target(platform: &Platform, env: &Env) -> Option<Platform> {
    let mut parts = [None, None, None];
    for (name, value) in env.iter() {
        match name {
            "TARGETPLATFORM" => {
                if let Ok(target) = value.parse() {
                    return Some(target);
                }
            }
            "TARGETOS" => parts[0] = Some(value),
            "TARGETARCH" => parts[1] = Some(value),
            "TARGETVARIANT" => parts[2] = Some(value),
            _ => {}
        }
    }
    if parts.iter().all(Option::is_none) {
        return None;
    }
    let given = |part: Option<&str>, other: &str| {
        part.filter(|part| !part.is_empty()).unwrap_or(other).to_owned()
    };
    Some(Platform::new(
        &given(parts[0], &platform.os),
        &given(parts[1], &platform.architecture),
        parts[2].unwrap_or_default(),
    ))
}

/// The display name of a here-document: its first line.
pub(super) fn heredoc_summary(content: &str) -> String {
    let mut lines = content.trim().lines();
    let first = lines.next().unwrap_or_default();
    match lines.next() {
        Some(_) => format!("{first}..."),
        None => first.into(),
    }
}
