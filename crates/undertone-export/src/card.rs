//! `README.md` of an export: what the export is, how to load it, and the roles of its conversations.

use std::path::Path;

use serde_json::json;

/// The card of a merged model.
pub(crate) fn of_model(destination: &Path, base: &Path) -> String {
    let use_it = "model = AutoModelForCausalLM.from_pretrained(\"path/to/this/folder\")";
    card(
        destination,
        base,
        "transformers",
        "a language model, fine-tuned",
        "from transformers import AutoModelForCausalLM",
        use_it,
    )
}

/// The card of an adapter.
pub(crate) fn of_adapter(destination: &Path, base: &Path) -> String {
    let imports = "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM";
    let use_it = "model = AutoModelForCausalLM.from_pretrained(\"path/to/the/base/model\", dtype=\"float32\")\n\
                  model = PeftModel.from_pretrained(model, \"path/to/this/folder\")";
    card(destination, base, "peft", "a LoRA adapter, fine-tuned", imports, use_it)
}

fn card(destination: &Path, base: &Path, library: &str, what: &str, imports: &str, use_it: &str) -> String {
    let title = destination.file_name().unwrap_or(destination.as_os_str()).display();
    // A JSON string is a YAML string, whatever the path contains.
    let base_yaml = json!(base.to_string_lossy());
    let base = base.display();
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

Conversations are ChatML with the roles `system`, `user`, `assistant`, `reason` (why the user sent the
message before it) and `reaction` (what the user thought of the reply before it). `apply_chat_template` renders them
exactly as in training. It inserts no system text, so begin with the one that the fine-tuning used. With
`add_generation_prompt=True` it opens a turn of the user; `generation_role` names another role. Generation ends with the
turn, at `<|im_end|>`.
"
    )
}
