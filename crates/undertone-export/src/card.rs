//! `README.md` of an export, a model card: what the export is, how to load it, the roles of its conversations, and what its
//! study says about it.

use std::path::Path;

use serde_json::json;
use undertone_data::{Role, Speaker};

use crate::original::Original;

/// The card of a merged model.
pub(crate) fn of_model(destination: &Path, original: &Original<'_>) -> String {
    let use_it = "model = AutoModelForCausalLM.from_pretrained(\"path/to/this/folder\")";
    card(
        destination,
        original,
        "transformers",
        "a language model, fine-tuned",
        "from transformers import AutoModelForCausalLM",
        use_it,
    )
}

/// The card of a GGUF file.
pub(crate) fn of_gguf(destination: &Path, original: &Original<'_>) -> String {
    let use_it = "# llama-cli -m model.gguf, or: ollama create my-user -f Modelfile\nmodel = Llama(\"model.gguf\")";
    card(destination, original, "gguf", "a language model in GGUF, fine-tuned", "from llama_cpp import Llama", use_it)
}

/// The card of an adapter.
pub(crate) fn of_adapter(destination: &Path, original: &Original<'_>) -> String {
    let imports = "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM";
    let use_it = "model = AutoModelForCausalLM.from_pretrained(\"path/to/the/base/model\", dtype=\"float32\")\n\
                  model = PeftModel.from_pretrained(model, \"path/to/this/folder\")";
    card(destination, original, "peft", "a LoRA adapter, fine-tuned", imports, use_it)
}

fn card(destination: &Path, original: &Original<'_>, library: &str, what: &str, imports: &str, use_it: &str) -> String {
    let title = destination.file_name().unwrap_or(destination.as_os_str()).display();
    let end = &original.template.format().turn(Speaker::Message(Role::User)).end;
    // A JSON string is a YAML string, whatever the path contains.
    let base = original.name;
    let base_yaml = json!(base);
    let about = original.about;
    format!(
        "---
base_model: {base_yaml}
library_name: {library}
pipeline_tag: text-generation
---

# {title}

This is {what} from `{base}` with Undertone. `undertone.json` records how it was trained.

```python
{imports}

{use_it}
```

Conversations have the roles `system`, `user`, `assistant`, `reason` (why the user sent the message before it) and
`reaction` (what the user thought of the reply before it). `apply_chat_template` renders them exactly as in training, in
the format of the base model. It inserts no system text, so begin with the one that the fine-tuning used. With
`add_generation_prompt=True` it opens a turn of the user; `generation_role` names another role. Generation ends with the
turn of the user, at `{end}`.

{about}"
    )
}
