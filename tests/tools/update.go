// Updates a client connection with the client that openapi-generator generates. The server is that of the description.
package main

import (
	"context"
	"fmt"
	"os"

	"tools/mithril"
)

func main() {
	keys := map[string]mithril.APIKey{"api_key": {Key: os.Getenv("API_KEY")}}
	ctx := context.WithValue(context.Background(), mithril.ContextAccessToken, os.Getenv("TOKEN"))
	ctx = context.WithValue(ctx, mithril.ContextAPIKeys, keys)
	client := mithril.NewAPIClient(mithril.NewConfiguration())
	body := mithril.NewUpdateClientConnectionRequest(os.Getenv("REDIRECT_URI"))
	answer, _, err := client.ClientConnectionsAPI.
		UpdateClientConnection(ctx, os.Getenv("CLIENT"), os.Getenv("CONNECTION")).
		UpdateClientConnectionRequest(*body).
		Execute()
	if err != nil {
		panic(err)
	}
	fmt.Println(answer.Data.RedirectUri)
}
