// Loads the GGUF exports with llama.cpp (node-llama-cpp with its prebuilt library) and compares tokens and nats with ours.
//
//     UNDERTONE_PEER_OUT=OUT cargo test --release --workspace --test export peer
//     node tests/interop/llama_cpp.mjs OUT
//
// Exits with 1 if the F32 file has other tokens or differs by more than 1e-3 nats for one token.

import {readFileSync} from "node:fs";
import {getLlama} from "node-llama-cpp";

const TOLERANCE = 1e-3;
// By default llama.cpp rounds keys and values to 16 bits, which moves nats by 5e-3.
const KEYS = {experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32"};
const out = process.argv[2];
const expected = JSON.parse(readFileSync(`${out}/expected.json`, "utf8"));
const vocabulary = expected.logits.length / expected.tokens.length;

/** The nats of each token after the first, from our logits. */
const ours = expected.tokens.slice(1).map((token, index) => {
    const row = expected.logits.slice(index * vocabulary, (index + 1) * vocabulary);
    const largest = row.reduce((largest, logit) => Math.max(largest, logit), -Infinity);
    const sum = row.reduce((sum, logit) => sum + Math.exp(logit - largest), 0);
    return largest + Math.log(sum) - row[token];
});

const llama = await getLlama({build: "never", gpu: false, logLevel: "error"});
const manifest = new URL("node_modules/node-llama-cpp/package.json", import.meta.url);
console.log(`node-llama-cpp ${JSON.parse(readFileSync(manifest, "utf8")).version}, llama.cpp ${llama.llamaCppRelease.release}, CPU`);
let failed = false;
for (const kind of ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_k"]) {
    const model = await llama.loadModel({modelPath: `${out}/gguf-${kind}/model.gguf`, useMmap: false});
    const tokens = model.tokenize(expected.text, true);
    const same = tokens.length === expected.tokens.length && tokens.every((token, at) => token === expected.tokens[at]);
    const end = model.detokenize([model.tokens.eot ?? model.tokens.eos], true);
    const context = await model.createContext({contextSize: 512, flashAttention: false, ...KEYS});
    const answers = await context.getSequence().controlledEvaluate(
        expected.tokens.slice(0, -1).map((token) => [token, {generateNext: {probabilities: true}}])
    );
    const theirs = answers.map((answer, at) => -Math.log(answer.next.probabilities.get(expected.tokens[at + 1])));
    const differences = theirs.map((nats, at) => Math.abs(nats - ours[at]));
    const largest = Math.max(...differences);
    const mean = theirs.reduce((sum, nats) => sum + nats, 0) / theirs.length;
    console.log(`${kind}: tokens ${same ? "equal" : "differ"}, a turn ends with ${end}, ${theirs.length} tokens, ` +
        `${mean.toFixed(4)} nats per token, largest difference ${largest.toExponential(1)} nats`);
    failed ||= !same || end !== "<|im_end|>" || (kind === "f32" && !(largest <= TOLERANCE));
    await context.dispose();
    await model.dispose();
}
process.exit(failed ? 1 : 0);
