// Shows openapi.json with Swagger UI. What a user types stays in this tab, and nothing is sent to another host:
// without `validatorUrl: null` Swagger UI would send the description to validator.swagger.io.

const METHODS = ["get", "put", "post", "delete", "patch"];

// A user decides about these parameters. Why a program should not is said in public/connections.yaml.
function withConditionalParameters(description) {
  const operations = Object.values(description.paths).flatMap((path) => METHODS.map((method) => path[method] ?? {}));
  for (const operation of operations) {
    operation.parameters?.push(...(operation["x-conditional-parameters"] ?? []));
    delete operation["x-conditional-parameters"];
  }
  return description;
}

// Refusals, their examples and headers open by a click, so that a method fits on two screens.
function Folding({ React }) {
  const Status = React.createContext("");
  const withStatus = (Original) => (properties) =>
    React.createElement(Status.Provider, { value: properties.code ?? "" }, React.createElement(Original, properties));
  const folded = (title, least) => (Original) => (properties) => {
    const content = React.createElement(Original, properties);
    if (!(Number(React.useContext(Status)) >= least)) return content;
    return React.createElement("details", null, React.createElement("summary", null, title), content);
  };
  const withRefusalsFolded = (Original) => (properties) => {
    const [isOpen, setOpen] = React.useState(false);
    const button = { className: "btn", "aria-expanded": isOpen, onClick: () => setOpen(!isOpen) };
    return React.createElement(
      "div",
      { className: isOpen ? "" : "only-success" },
      React.createElement(Original, properties),
      React.createElement("p", null, React.createElement("button", button, isOpen ? "Hide refusals" : "Show refusals")),
    );
  };
  return {
    wrapComponents: {
      responses: withRefusalsFolded,
      response: withStatus,
      modelExample: folded("Example", 300),
      headers: folded("Headers", 200),
    },
  };
}

const answer = await fetch("/openapi.json");
// The page may call only the server that it came from, whatever else leads there.
const description = { ...(await answer.json()), servers: [{ url: location.origin }] };
const page = SwaggerUIBundle({
  spec: withConditionalParameters(description),
  dom_id: "#description",
  layout: "BaseLayout",
  presets: [SwaggerUIBundle.presets.apis],
  plugins: [Folding],
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  persistAuthorization: false,
  validatorUrl: null,
  // Else the browser answers 401 with `WWW-Authenticate: Basic` by a window of its own, and the request waits for it.
  requestInterceptor: (request) => Object.assign(request, { credentials: "omit" }),
  onComplete: () => {
    const { bearer, apiKey } = document.getElementById("description").dataset;
    if (bearer) page.preauthorizeApiKey("bearer", bearer);
    if (apiKey) page.preauthorizeApiKey("api_key", apiKey);
  },
});
