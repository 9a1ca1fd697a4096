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

const answer = await fetch("/openapi.json");
SwaggerUIBundle({
  spec: withConditionalParameters(await answer.json()),
  dom_id: "#description",
  layout: "BaseLayout",
  presets: [SwaggerUIBundle.presets.apis],
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  persistAuthorization: false,
  validatorUrl: null,
});
