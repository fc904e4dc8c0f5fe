"use strict";
// Everything typed or answered is set as text, never as HTML.
const $ = (id) => document.getElementById(id);
let models = [], model = null, language = (navigator.language || "en").startsWith("zh") ? "zh" : "en";
const t = (key) => TEXTS[language][key] ?? key;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value; else if (key in made && key !== "list") made[key] = value; else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

async function call(path, body) {
  const headers = {"content-type": "application/json"};
  if ($("key").value) headers.authorization = "Bearer " + $("key").value;
  let response;
  try {
    response = await fetch(path, body === undefined ? {headers} : {method: "POST", headers, body: JSON.stringify(body)});
  } catch { throw new Error(t("network")); }
  const answer = await response.json().catch(() => ({error: response.statusText}));
  if (response.status === 401) $("key-field").hidden = false;
  if (!response.ok) throw Object.assign(new Error(answer.error), {status: response.status, retry: response.headers.get("retry-after")});
  return answer;
}

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  $("language").value = language;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  if (model) { showForm(); showAbout(); nameColumns(); }
}

function nameColumns() {
  for (const label of document.querySelectorAll("#columns label")) {
    const select = label.querySelector("select"), none = select.querySelector("option[value='']");
    label.firstChild.data = `${t("column")} ${fieldName(select.name)} `;
    if (none) none.textContent = t("none");
  }
  for (const go of document.querySelectorAll("#columns button")) go.textContent = t("send");
}

async function loadModels() {
  $("error").textContent = "";
  try { models = (await call("v1/models")).models; } catch (error) { $("error").textContent = error.message; return; }
  $("model").replaceChildren(...models.map((m) => element("option", {value: m.name}, m.name)));
  choose(models[0]);
}

function choose(chosen) { model = chosen; for (const id of ["result", "error", "status", "columns", "preview", "table-status"]) $(id).replaceChildren(); $("download").hidden = true; showForm(); showAbout(); }

function fieldName(name) { return name === "pair" && !model.input.optional.includes("pair") ? t("pair_needed") : t(name); }

function showForm() {
  const kept = Object.fromEntries([...$("fields").querySelectorAll("textarea")].map((area) => [area.name, area.value]));
  if (!model.input) { $("fields").replaceChildren(element("p", {}, t("unknown_form"))); return; }
  $("fields").replaceChildren(...model.input.fields.map((name) =>
    element("label", {class: "field"}, fieldName(name), element("textarea", {name, id: "field-" + name, value: kept[name] ?? ""}))));
}

function itemOf(values) {
  const value = (name) => (values[name] ?? "").trim() ? values[name] : undefined;
  switch (model.input.kind) {
    case "question": return {question: values.question ?? "", context: values.context ?? ""};
    case "choices": {
      const item = {choices: (values.choices ?? "").split(/\r?\n|\|/).map((s) => s.trim()).filter(Boolean)};
      for (const name of ["context", "question"]) if (value(name)) item[name] = values[name];
      return item;
    }
    case "tokens": return (values.tokens ?? "").split(/\s+/).filter(Boolean);
    default: return value("pair") !== undefined ? {text: values.text ?? "", pair: values.pair} : (values.text ?? "");
  }
}

function fillSample() {
  const sample = model.input.sample, fields = model.input.fields;
  const values = typeof sample === "string" ? {[fields[0]]: sample}
    : Array.isArray(sample) ? (model.input.kind === "tokens" ? {tokens: sample.join(" ")} : {text: sample[0], pair: sample[1]})
    : {...sample, choices: (sample.choices ?? []).join("\n")};
  for (const name of fields) $("field-" + name).value = values[name] ?? "";
}

async function predict(event) {
  event.preventDefault();
  for (const id of ["error", "result"]) $(id).replaceChildren();
  const values = Object.fromEntries([...$("fields").querySelectorAll("textarea")].map((area) => [area.name, area.value]));
  if (!Object.values(values).some((value) => value.trim())) { $("error").textContent = t("empty"); $("fields").querySelector("textarea")?.focus(); return; }
  $("status").textContent = t("working");
  $("send").disabled = true;
  try {
    const answer = await call(`v1/models/${encodeURIComponent(model.name)}/predict`, {inputs: [itemOf(values)]});
    $("result").replaceChildren(...show(answer.predictions[0], values), ...why(answer.predictions[0], itemOf(values)));
    $("status").textContent = t("done");
  } catch (error) { $("error").textContent = error.message; $("status").textContent = ""; }
  $("send").disabled = false;
}

function bar(name, share, best) {
  const percent = Math.max(0, Math.min(1, share));
  return element("div", {class: best ? "row best" : "row"}, element("div", {class: "name"}, name),
    element("div", {class: "track", role: "img", "aria-label": `${name}: ${(percent * 100).toFixed(1)} %`},
      Object.assign(element("div"), {style: `width:${(percent * 100).toFixed(2)}%`})),
    element("div", {class: "number"}, (percent * 100).toFixed(1) + " %"));
}

function marked(text, spans) {
  // Offsets count characters as Python does (code points), JavaScript counts UTF-16 units.
  const letters = Array.from(text), parts = [];
  let at = 0;
  for (const span of [...spans].sort((a, b) => a.start - b.start)) {
    if (span.start < at) continue;
    parts.push(letters.slice(at, span.start).join(""));
    const mark = element("mark", {title: span.score === undefined ? "" : String(span.score)}, letters.slice(span.start, span.end).join(""));
    if (span.label) mark.append(element("span", {class: "tag"}, span.label));
    parts.push(mark);
    at = span.end;
  }
  parts.push(letters.slice(at).join(""));
  return element("div", {class: "text"}, ...parts);
}

function isNumber(answer) {
  // Of a model of numbers the score is the answer itself; an interval may be around it.
  return Object.keys(answer).every((name) => ["score", "low", "high", "tokens", "truncated"].includes(name)) && "score" in answer;
}

function show(answer, values) {
  const parts = [];
  if (answer.error_type) return [element("p", {}, answer.error)];
  if (answer.entities) parts.push(answer.entities.length ? marked(model.input.kind === "tokens" ? values.tokens : values.text, answer.entities) : element("p", {}, t("no_entities")));
  else if (answer.masks) parts.push(element("div", {class: "text"}, answer.text), ...answer.masks.flatMap((mask) => mask.candidates.map((c, i) => bar(c.token, c.score, i === 0))));
  else if ("answer" in answer && "start" in answer) {
    parts.push(answer.answer === "" ? element("p", {}, t("no_answer")) : element("p", {}, element("strong", {}, answer.answer), ` (${answer.score})`));
    parts.push(marked(values.context, answer.answer === "" ? [] : [{start: answer.start, end: answer.end}]));
  } else if (Array.isArray(answer.scores)) {
    const choices = itemOf(values).choices;
    parts.push(...answer.scores.map((score, i) => bar(choices[i] ?? String(i), score, i === answer.answer)));
  } else if (answer.scores) {
    if (answer.review) parts.push(element("p", {class: "note"}, t("review")));
    if (Array.isArray(answer.labels)) parts.push(element("p", {}, answer.labels.length ? answer.labels.join(", ") : t("no_labels")));
    const chosen = (name) => Array.isArray(answer.labels) ? answer.labels.includes(name) : name === answer.label;
    parts.push(...Object.entries(answer.scores).sort((a, b) => b[1] - a[1]).map(([name, score]) => bar(name, score, chosen(name))));
  } else if (isNumber(answer)) {
    const around = answer.low === undefined || answer.low === null ? "" : ` (${t("between").replace("LOW", answer.low).replace("HIGH", answer.high)})`;
    parts.push(element("p", {}, `${t("value")}: `, element("strong", {}, String(answer.score)), around));
  } else if (answer.embeddings) parts.push(element("p", {}, `${t("similarity")}: `, element("strong", {}, String(answer.score))));
  else if (answer.embedding) parts.push(element("p", {}, `${t("vector")} (${answer.embedding.length}): ${answer.embedding.slice(0, 8).join(", ")} …`));
  else parts.push(element("pre", {class: "text"}, JSON.stringify(answer, null, 2)));
  parts.push(element("p", {class: "note"}, `${answer.tokens} ${t("tokens_read")}`));
  if (answer.truncated) parts.push(element("p", {class: "note"}, t("truncated")));
  return parts;
}

function why(answer, item) {
  // A button that asks which words carry the answer, for one label or several of a text.
  if (!answer.scores || Array.isArray(answer.scores) || !model.input.fields.includes("text")) return [];
  const place = element("div"), button = element("button", {type: "button", id: "why"}, t("why"));
  button.onclick = async () => {
    button.disabled = true;
    try {
      const found = await call(`v1/models/${encodeURIComponent(model.name)}/explain`, {input: item});
      const most = Math.max(...found.words.map((word) => Math.abs(word.weight)), 1e-12);
      place.replaceChildren(element("p", {class: "note"}, `${found.label ?? ""}: ${t("why_note")}`),
        ...Object.entries(found.texts).map(([name, text]) => weighted(text, found.words.filter((word) => word.field === name), most)));
    } catch (error) { place.replaceChildren(element("p", {class: "note"}, error.message)); }
    button.disabled = false;
  };
  return [button, place];
}

function weighted(text, words, most) {
  const letters = Array.from(text), parts = [];
  let at = 0;
  for (const word of words) {
    parts.push(letters.slice(at, word.start).join(""));
    const shown = element("span", {title: word.weight.toFixed(3)}, letters.slice(word.start, word.end).join(""));
    shown.style.background = `rgba(${word.weight > 0 ? "0,140,60" : "200,40,40"},${(Math.abs(word.weight) / most).toFixed(2)})`;
    parts.push(shown);
    at = word.end;
  }
  parts.push(letters.slice(at).join(""));
  return element("div", {class: "text"}, ...parts);
}

function showAbout() {
  const metrics = Object.entries(model.metrics).filter(
    ([name, value]) => typeof value === "number" && !/seconds|per_second/.test(name));
  const rows = [[t("task"), model.task], [t("version"), model.version], [t("length"), String(model.limits.max_seq_length)]];
  if (model.labels.length) rows.push([t("labels"), model.labels.slice(0, 200).join(", ")]);
  for (const [name, value] of Object.entries(model.review)) rows.push([t(name), [value].flat().join(", ")]);
  for (const [name, value] of metrics) rows.push([name, value.toFixed(4)]);
  $("about").replaceChildren(...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

function parseTable(text) {
  const first = text.split(/\r?\n/, 1)[0];
  const delimiter = ["\t", ";", ",", "|"].sort((a, b) => first.split(b).length - first.split(a).length)[0];
  const rows = [];
  let row = [], cell = "", quoted = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (quoted) { if (c === '"' && text[i + 1] === '"') { cell += '"'; i++; } else if (c === '"') quoted = false; else cell += c; }
    else if (c === '"' && cell === "") quoted = true;
    else if (c === delimiter) { row.push(cell); cell = ""; }
    else if (c === "\n" || c === "\r") { if (c === "\r" && text[i + 1] === "\n") i++; row.push(cell); rows.push(row); row = []; cell = ""; }
    else cell += c;
  }
  if (cell !== "" || row.length) { row.push(cell); rows.push(row); }
  return rows.filter((cells) => cells.some((value) => value !== ""));
}

function csvCell(value) { const text = String(value ?? ""); return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text; }

async function readFile(file) {
  for (const id of ["preview", "table-status"]) $(id).replaceChildren();
  $("download").hidden = true;
  const rows = parseTable((await file.text()).replace(/^\ufeff/, ""));
  if (rows.length < 2 || !model.input) { $("table-status").textContent = t("no_columns"); return; }
  const [header, ...data] = rows;
  const selects = model.input.fields.map((name) => {
    const needed = !model.input.optional.includes(name);
    const options = [...(needed ? [] : [element("option", {value: ""}, t("none"))]), ...header.map((column, i) => element("option", {value: String(i)}, column))];
    const select = element("select", {name}, ...options);
    const found = header.findIndex((column) => column.toLowerCase() === name || (name === "text" && /^(text|sentence1?|message|review)$/i.test(column)));
    if (found >= 0) select.value = String(found);
    return select;
  });
  const go = element("button", {type: "button"}, t("send"));
  go.onclick = () => answerTable(header, data, selects, go);
  $("columns").replaceChildren(...selects.map((select) => element("label", {class: "field"}, `${t("column")} ${fieldName(select.name)} `, select)), go);
}

async function answerTable(header, data, selects, go) {
  const answers = [], step = 64;
  let failed = 0;
  go.disabled = true; $("progress").hidden = false; $("table-status").replaceChildren();
  try {
    for (let start = 0; start < data.length; start += step) {
      const items = data.slice(start, start + step).map((cells) =>
        itemOf(Object.fromEntries(selects.map((select) => [select.name, select.value === "" ? "" : cells[Number(select.value)] ?? ""]))));
      answers.push(...await answerRows(items, start));
      $("progress").value = Math.min(1, answers.length / data.length);
      $("table-status").textContent = `${answers.length} ${t("of")} ${data.length} ${t("rows")}`;
    }
  } catch (error) { $("table-status").textContent = error.message; go.disabled = false; return; }
  failed = answers.filter((answer) => answer.error).length;
  const names = [...new Set(answers.flatMap(Object.keys))];
  const flat = (value) => typeof value === "object" && value !== null ? JSON.stringify(value) : value;
  const lines = [[...header, ...names], ...data.map((cells, i) => [...header.map((_, k) => cells[k]), ...names.map((name) => flat(answers[i][name]))])];
  const link = $("download");
  if (link.href) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob(["\ufeff" + lines.map((line) => line.map(csvCell).join(",")).join("\r\n") + "\r\n"], {type: "text/csv"}));
  link.hidden = false;
  $("table-status").textContent = `${t("done")} ${data.length} ${t("rows")}` + (failed ? `, ${failed} ${t("failed")}` : "");
  const shown = names.filter((name) => !["scores", "tokens", "truncated", "embedding"].includes(name));
  $("preview").replaceChildren(element("table", {}, element("thead", {}, element("tr", {}, ...[header[0], ...shown].map((name) => element("th", {scope: "col"}, name)))),
    element("tbody", {}, ...data.slice(0, 20).map((cells, i) => element("tr", {}, element("td", {}, cells[0] ?? ""), ...shown.map((name) => element("td", {}, String(flat(answers[i][name]) ?? ""))))))));
  go.disabled = false; $("progress").hidden = true;
}

async function answerRows(items, start) {
  const path = `v1/models/${encodeURIComponent(model.name)}/predict`;
  for (;;) {
    try { return (await call(path, {inputs: items})).predictions; } catch (error) {
      if (error.status === 429) { await new Promise((r) => setTimeout(r, 1000 * (Number(error.retry) || 1))); continue; }
      if (error.status !== 422 && error.status !== 500) throw error;
      if (items.length === 1) return [{error: error.message}];
      const halves = [items.slice(0, items.length >> 1), items.slice(items.length >> 1)];
      return [...await answerRows(halves[0], start), ...await answerRows(halves[1], start)];
    }
  }
}

$("form").addEventListener("submit", predict);
$("form").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit(); });
$("sample").onclick = fillSample;
$("model").onchange = () => choose(models.find((m) => m.name === $("model").value));
$("language").onchange = () => { language = $("language").value; translate(); };
$("key").onchange = loadModels;
$("file").onchange = () => $("file").files[0] && readFile($("file").files[0]);
$("drop").ondragover = (event) => { event.preventDefault(); $("drop").classList.add("over"); };
$("drop").ondragleave = () => $("drop").classList.remove("over");
$("drop").ondrop = (event) => { event.preventDefault(); $("drop").classList.remove("over"); if (event.dataTransfer.files[0]) readFile(event.dataTransfer.files[0]); };
translate();
loadModels();
