// Loads the GGUF exports with llama.cpp (node-llama-cpp with its prebuilt library) and compares tokens and nats with ours.
//
//     UNDERTONE_PEER_OUT=OUT cargo test --release --workspace --test export peer
//     node tests/interop/llama_cpp.mjs OUT
//
// Exits with 1 if the F32 file has other tokens, or if it or that of a tiny model of a family differs by more than 1e-3 nats
// for one token.

import {readFileSync, readdirSync} from "node:fs";
import {getLlama} from "node-llama-cpp";

const TOLERANCE = 1e-3;
// By default llama.cpp rounds keys and values to 16 bits, which moves nats by 5e-3.
const KEYS = {experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32"};
const out = process.argv[2];
const expected = JSON.parse(readFileSync(`${out}/expected.json`, "utf8"));

/** The nats of each token after the first, from our logits. */
function nats({tokens, logits}) {
    const vocabulary = logits.length / tokens.length;
    return tokens.slice(1).map((token, index) => {
        const row = logits.slice(index * vocabulary, (index + 1) * vocabulary);
        const largest = row.reduce((largest, logit) => Math.max(largest, logit), -Infinity);
        const sum = row.reduce((sum, logit) => sum + Math.exp(logit - largest), 0);
        return largest + Math.log(sum) - row[token];
    });
}

/** The nats of each token after the first, from llama.cpp. */
async function theirs(model, tokens) {
    const context = await model.createContext({contextSize: 512, flashAttention: false, ...KEYS});
    const answers = await context.getSequence().controlledEvaluate(
        tokens.slice(0, -1).map((token) => [token, {generateNext: {probabilities: true}}])
    );
    await context.dispose();
    return answers.map((answer, at) => -Math.log(answer.next.probabilities.get(tokens[at + 1])));
}

const largestDifference = (one, other) => Math.max(...one.map((nats, at) => Math.abs(nats - other[at])));

const llama = await getLlama({build: "never", gpu: false, logLevel: "error"});
const manifest = new URL("node_modules/node-llama-cpp/package.json", import.meta.url);
console.log(`node-llama-cpp ${JSON.parse(readFileSync(manifest, "utf8")).version}, llama.cpp ${llama.llamaCppRelease.release}, CPU`);
let failed = false;
for (const kind of ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_k"]) {
    const model = await llama.loadModel({modelPath: `${out}/gguf-${kind}/model.gguf`, useMmap: false});
    const tokens = model.tokenize(expected.text, true);
    const same = tokens.length === expected.tokens.length && tokens.every((token, at) => token === expected.tokens[at]);
    const end = model.detokenize([model.tokens.eot ?? model.tokens.eos], true);
    const found = await theirs(model, expected.tokens);
    const largest = largestDifference(found, nats(expected));
    const mean = found.reduce((sum, nats) => sum + nats, 0) / found.length;
    console.log(`${kind}: tokens ${same ? "equal" : "differ"}, a turn ends with ${end}, ${found.length} tokens, ` +
        `${mean.toFixed(4)} nats per token, largest difference ${largest.toExponential(1)} nats`);
    failed ||= !same || end !== "<|im_end|>" || (kind === "f32" && !(largest <= TOLERANCE));
    await model.dispose();
}
for (const name of readdirSync(`${out}/gguf-families`).sort()) {
    const folder = `${out}/gguf-families/${name}`;
    const expected = JSON.parse(readFileSync(`${folder}/expected.json`, "utf8"));
    const model = await llama.loadModel({modelPath: `${folder}/model.gguf`, useMmap: false});
    const largest = largestDifference(await theirs(model, expected.tokens), nats(expected));
    console.log(`${name}: largest difference ${largest.toExponential(1)} nats`);
    // llama.cpp computes GELU, which only Gemma has, from a table of 16-bit numbers.
    failed ||= !(largest <= (name.startsWith("gemma") ? 5 : 1) * TOLERANCE);
    await model.dispose();
}
process.exit(failed ? 1 : 0);
