package clientapi

import (
	"bytes"
	"context"
	"errors"
	"html/template"
	"net/http"
	"net/url"

	"beep/account"
	"beep/matrix"
	"beep/web"
)

// doneScript tells the client that opened the page that the stage is complete
// ("Fallback").
const doneScript = `
const opener = window.opener;
if (window.onAuthDone) { window.onAuthDone(); }
else if (opener && opener.postMessage) { opener.postMessage("authDone", "*"); }
`

const fallbackStyle = `
body { font-family: sans-serif; max-width: 28em; margin: 4em auto; padding: 0 1em; }
label, input, button { display: block; margin: 0.5em 0; font-size: 1em; }
input { width: 100%; box-sizing: border-box; padding: 0.4em; }
.fault { color: #a00000; }
`

var fallbackTemplate = template.Must(template.New("fallback").Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
<style>` + fallbackStyle + `</style>
</head>
<body>
<h1>{{.Title}}</h1>
{{with .Fault}}<p class="fault">{{.}}</p>{{end}}
{{if .Done}}<p>You may close this window and go on in your client.</p>
<script>` + doneScript + `</script>
{{else if .Stage}}<form method="post">
{{if eq .Stage "m.login.password"}}{{if .UserID}}<p>{{.UserID}}</p>
{{else}}<label for="user">User name</label><input id="user" name="user" autocomplete="username" required>{{end}}
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
{{else if eq .Stage "m.login.registration_token"}}<label for="token">Registration token</label>
<input id="token" name="token" autocomplete="off" required>
{{else if eq .Stage "m.login.terms"}}<p>To register you have to accept:</p>
<ul>{{range .Terms}}<li>{{.Name}} {{.Version}}:{{range $language, $text := .Languages}}
<a href="{{$text.URL}}" hreflang="{{$language}}" target="_blank" rel="noopener noreferrer">{{$text.Name}} ({{$language}})</a>{{end}}</li>
{{end}}</ul>
{{end}}<input type="hidden" name="session" value="{{.Session}}">
<button type="submit">{{.Button}}</button>
</form>{{end}}
</body>
</html>
`))

// fallback is what stands on the page.
type fallback struct {
	Title   string
	Fault   string
	Done    bool
	Stage   string // "" shows no form
	Session string
	UserID  string // whose password it is; "" asks for the name
	Button  string
	Terms   []account.Terms
}

func (f *fallback) page(status int) (*web.Raw, error) {
	var text bytes.Buffer
	if err := fallbackTemplate.Execute(&text, f); err != nil {
		return nil, err
	}
	return web.HTML(status, text.Bytes(),
		"style-src "+web.HashSource(fallbackStyle), "script-src "+web.HashSource(doneScript)), nil
}

var fallbackButtons = map[string]string{
	account.StageDummy:             "Continue",
	account.StagePassword:          "Confirm",
	account.StageRegistrationToken: "Continue",
	account.StageTerms:             "I accept",
}

type fallbackRequest struct {
	Stage   string `path:"stage"`
	Session string `query:"session"`
}

// fallbackPage is GET /auth/{authType}/fallback/web.
func (a *API) fallbackPage(_ context.Context, _ web.Nobody, req *fallbackRequest) (*web.Raw, error) {
	return a.showStage(req.Stage, req.Session, http.StatusOK, "")
}

// showStage is the page of a stage, with what went wrong before.
func (a *API) showStage(stage, session string, status int, fault string) (*web.Raw, error) {
	userID, possible, err := a.accounts.StageOf(session, stage)
	if err != nil || !possible || fallbackButtons[stage] == "" {
		page := fallback{Title: "This link is not valid", Fault: "Its session has expired, or does not go on this way. Begin again in your client."}
		return page.page(http.StatusBadRequest)
	}
	page := fallback{
		Title:   "Authentication",
		Fault:   fault,
		Stage:   stage,
		Session: session,
		UserID:  userID,
		Button:  fallbackButtons[stage],
		Terms:   a.accounts.Terms(),
	}
	return page.page(status)
}

type fallbackFormRequest struct {
	Stage string `path:"stage"`
	Body  url.Values
}

// fallbackForm is the form of the page.
func (a *API) fallbackForm(ctx context.Context, _ web.Nobody, req *fallbackFormRequest) (*web.Raw, error) {
	session := req.Body.Get("session")
	userID, possible, err := a.accounts.StageOf(session, req.Stage)
	if err != nil || !possible {
		return a.showStage(req.Stage, session, http.StatusBadRequest, "")
	}
	if userID == "" {
		userID = req.Body.Get("user")
	}
	err = a.accounts.CompleteStage(ctx, &account.AuthData{
		Type:     req.Stage,
		Session:  session,
		User:     userID,
		Password: req.Body.Get("password"),
		Token:    req.Body.Get("token"),
	})
	var told *matrix.Error
	switch {
	case err == nil:
		page := fallback{Title: "Done", Done: true}
		return page.page(http.StatusOK)
	case errors.As(err, &told) && told.Status < http.StatusInternalServerError:
		return a.showStage(req.Stage, session, told.Status, told.Message)
	}
	return nil, err
}
