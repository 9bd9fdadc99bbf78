//! The runbook held to what there is: at three in the morning nobody looks for a panel that was renamed.

use std::collections::BTreeSet;

use crate::dashboards::board::Board;

/// What every chapter of an alert says.
const WORDS: [&str; 4] = ["**see**", "**means**", "**look**", "**relieve**"];
/// From here on it speaks of alerts; before it stands the table of drills, which is held to them by themselves.
const BEGIN: &str = "\n## Service levels\n";

/// What is missing in chapters, and what they speak of and there is not. `is_known`: names of metrics and of what rules record.
pub fn findings(
    text: &str,
    boards: &[Board],
    names: &BTreeSet<String>,
    is_known: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut findings = Vec::new();
    let Some((_, chapters)) = text.split_once(BEGIN) else {
        return vec![format!("there is no chapter{}", BEGIN.replace('\n', " "))];
    };
    let anchors: BTreeSet<_> = text.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
    for part in chapters.split("](#").skip(1) {
        let link = part.split(')').next().unwrap_or(part);
        if !anchors.contains(link) {
            findings.push(format!("a link leads to #{link}, which is no chapter"));
        }
    }
    findings.extend(
        names
            .iter()
            .filter(|name| !is_known(name))
            .map(|name| format!("{name} is no metric and nothing recorded")),
    );
    let shown = |word: &str| {
        boards.iter().any(|board| {
            board.title == word
                || board.panels.iter().any(|panel| {
                    panel.title == word || panel.queries.iter().any(|query| query.legend == word)
                })
        })
    };
    findings.extend(
        emphasised(chapters)
            .into_iter()
            .filter(|word| !shown(word))
            .map(|word| format!("*{word}* is no dashboard, panel or legend")),
    );
    for chapter in chapters.split("\n### Tickgate").skip(1) {
        // One of another kind may follow.
        let chapter = chapter.split("\n#").next().unwrap_or(chapter);
        let (name, said) = chapter.split_once('\n').unwrap_or((chapter, ""));
        if said.starts_with("As [Tickgate") {
            continue;
        }
        let lower = said.to_lowercase();
        let missing: Vec<_> = WORDS.into_iter().filter(|word| !lower.contains(word)).collect();
        if !missing.is_empty() {
            findings.push(format!("Tickgate{name} does not say {}", missing.join(", ")));
        }
        let looks = ["1. ", "2. ", "3. "].into_iter().all(|number| said.replace('\n', " ").contains(number));
        if !looks && !said.contains(" as with [Tickgate") {
            findings.push(format!("Tickgate{name} does not name three things to look at"));
        }
    }
    findings
}

/// The link to a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// What stands between single asterisks, outside of code.
fn emphasised(text: &str) -> Vec<String> {
    let plain: String = text.split('`').step_by(2).collect();
    let plain = plain.replace("**", "");
    plain
        .split('*')
        .skip(1)
        .step_by(2)
        .map(|word| word.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Runbook\n\n*not looked at*\n\n## Service levels\nOf `tickgate:a:b`.\n\n### TickgateLag\n**See**: *Some*, *Lag,\n\
        seconds* (*late*). **Means**: slow, see [there](#clients-that-are-late). **Look**: 1. a; 2. `*`;\n3. c. **Relieve**: wait.\n\n\
        ### TickgateLags\nAs [TickgateLag](#tickgatelag), slower.\n\n### TickgateOther\n**See**: x. **Means**: y. **Look** and **relieve** as with \
        [TickgateLag](#tickgatelag).\n\n### Clients that are late\nNothing.\n";

    fn found(text: &str, names: &[&str]) -> Vec<String> {
        let json = serde_json::json!({"title": "Tickgate / Some", "panels": [
            {"title": "Lag, seconds", "targets": [{"expr": "x", "legendFormat": "late"}]}]});
        let boards = [Board::parse("some", &json.to_string()).unwrap()];
        let names = names.iter().map(|&name| name.to_owned()).collect();
        findings(text, &boards, &names, |name| name == "tickgate:a:b")
    }

    /// It spoke of panels and of a rule that there were not, and of some alerts it did not say what to look at.
    #[test]
    fn chapters_say_all_and_speak_of_what_there_is() {
        assert_eq!(found(TEXT, &["tickgate:a:b"]), [""; 0]);
        assert_eq!(found(TEXT, &["tickgate:a:c"]), ["tickgate:a:c is no metric and nothing recorded"]);
        for (there, instead, expected) in [
            ("**Relieve**", "Relieve", "TickgateLag does not say **relieve**"),
            ("3. c", "c", "TickgateLag does not name three things to look at"),
            (
                "As [TickgateLag]",
                "Like [TickgateLag]",
                "TickgateLags does not say **see**, **means**, **look**, **relieve**",
            ),
            (" as with [", " as [", "TickgateOther does not name three things to look at"),
            ("*Lag,\n", "*Lag in\n", "*Lag in seconds* is no dashboard, panel or legend"),
            ("(*late*)", "(*later*)", "*later* is no dashboard, panel or legend"),
            ("(#clients-that-are-late)", "(#clients)", "a link leads to #clients, which is no chapter"),
            ("\n## Service levels\n", "\n## Levels\n", "there is no chapter ## Service levels "),
        ] {
            let all = found(&TEXT.replace(there, instead), &[]);
            assert!(all.iter().any(|found| found == expected), "{expected}: {all:?}");
        }
    }
}
