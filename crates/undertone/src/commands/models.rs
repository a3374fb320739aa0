//! `undertone models`: lists the families of models that can be trained.

use serde_json::json;
use undertone_model::FAMILIES;

use crate::shell::Shell;

pub(crate) fn run(shell: &Shell) {
    if shell.json {
        let families = FAMILIES.iter().map(|family| {
            json!({
                "model_type": family.model_type,
                "architecture": family.architecture,
                "examples": family.examples,
                "left_out": family.left_out,
            })
        });
        return shell.print_json(&families.collect::<Vec<_>>());
    }
    let mut text =
        "`model_type` in `config.json`, published models of the family, and what of it is refused\n\n".to_owned();
    for family in &FAMILIES {
        text += &format!("{:<12} {}\n{:<12} not: {}\n", family.model_type, family.examples, "", family.left_out);
    }
    text += "\nConversations are written in the model's own chat format, as its chat template writes them. The tokenizer must be byte-pair encoding.";
    text += "\nA tiny model of each family has the logits and gradients of transformers: a test of this project.\n";
    shell.print(&text);
}
