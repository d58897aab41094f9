// validatorUrl null: the default would ask a server of somebody else's about every page shown.
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null });
