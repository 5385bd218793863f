// The page of the HTTP interface, made from openapi.json.

"use strict";
const make = (name, text = "", parent = null) => {
  const element = document.createElement(name);
  element.textContent = text;
  parent?.append(element);
  return element;
};

const show = (path, { post }, schemas) => {
  const section = make("section", "", document.querySelector("main"));
  make("h2", `POST ${path}`, section);
  make("p", post.summary + ".", section);
  const body = post.requestBody.content["application/json"];
  const schema = schemas[body.schema.$ref.split("/").pop()];
  const list = make("dl", "", section);
  for (const [name, value] of Object.entries(schema.properties)) {
    make("dt", name, list);
    const type = value.type ?? (value.anyOf ?? []).map((one) => one.type).join(" or ");
    const limits = ["minimum", "maximum", "exclusiveMinimum"].filter((key) => key in value).map((key) => `${key} ${value[key]}`);
    const standard = value.default !== undefined && value.default !== null ? [`default ${JSON.stringify(value.default)}`] : [];
    make("dd", [type, ...limits, ...standard, (schema.required ?? []).includes(name) ? "required" : ""].filter(Boolean).join(", "), list);
  }
  const text = make("textarea", "", section);
  text.value = JSON.stringify(body.example);
  text.setAttribute("aria-label", `body of the request to ${path}`);
  const command = make("pre", "", section);
  command.tabIndex = 0; // it may scroll
  const showCommand = () => {
    const quoted = text.value.length > 400 ? "@request.json" : `'${text.value.replaceAll("'", "'\\''")}'`;
    command.textContent = `curl ${location.origin}${path} --json ${quoted}`;
  };
  text.addEventListener("input", showCommand);
  showCommand();
  const answer = Object.assign(make("pre"), { tabIndex: 0, hidden: true });
  answer.setAttribute("role", "status");
  make("button", "Send", section).addEventListener("click", async () => {
    const token = document.querySelector("#token").value;
    const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
    const response = await fetch(path.slice(1), { method: "POST", headers, body: text.value });
    const content = await response.text();
    answer.hidden = false;
    answer.textContent = `${response.status} ${response.statusText}\n${content.slice(0, 20000)}${content.length > 20000 ? " ..." : ""}`;
  });
  section.append(answer);
};

fetch("openapi.json").then((response) => response.json()).then((found) => {
  document.querySelector("#about").textContent = `${found.info.description} Serving version ${found.info.version}.`;
  for (const [path, operations] of Object.entries(found.paths)) show(path, operations, found.components.schemas);
});
