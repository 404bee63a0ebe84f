package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/registry"
)

const (
	quotasRoute        = "/quotas"
	companyQuotasRoute = companyRoute + quotasRoute
)

type (
	companyIn struct {
		Company string `path:"company"`
	}
	companyQuotasIn struct {
		Company string `path:"company"`
		RawBody []byte `contentType:"application/merge-patch+json"`
	}
	quotasIn struct {
		RawBody []byte `contentType:"application/merge-patch+json"`
	}
	companyQuotasOut struct{ Body companyQuotas }
	quotasOut        struct{ Body installationQuotas }

	companyQuotas struct {
		Company string `json:"company"`
		CompanyLimits
		Used     companyUse    `json:"used"`
		Defaults CompanyLimits `json:"defaults" doc:"What holds where no operator set anything else."`
	}
	// CompanyLimits are the quotas that a company has.
	CompanyLimits struct {
		Callbacks    int64  `json:"callbacks" doc:"How many callbacks it may have: past it, registering is answered 422."`
		Replays      int64  `json:"replays" doc:"How many replays of many deliveries may be under way at a time: past it, starting one is answered 409."`
		WaitingBytes *int64 `json:"waiting_bytes" doc:"How many bytes of payload may wait for delivery, each event's once: past it, events are answered 429 with Retry-After. Null: no limit."`
		Weight       int64  `json:"weight" doc:"How many times as much as a company of weight 1 it gets, while both have more to send than goes out."`
	}
	companyUse struct {
		Callbacks    int64  `json:"callbacks"`
		Replays      int64  `json:"replays"`
		WaitingBytes *int64 `json:"waiting_bytes,omitempty" doc:"Only counted where there is a quota on it."`
	}
	installationQuotas struct {
		InstallationLimits
		Used     InstallationLimits `json:"used"`
		Defaults InstallationLimits `json:"defaults" doc:"What holds where no operator set anything else."`
	}
	// InstallationLimits are the quotas of all companies together.
	InstallationLimits struct {
		CallbackTypes int64 `json:"callback_types" doc:"How many callback types operators may add: past it, adding one is answered 422."`
	}

	quotaChangeDoc struct {
		_            struct{} `additionalProperties:"false"`
		Callbacks    *int64   `json:"callbacks,omitempty" nullable:"true" minimum:"0" maximum:"1000000"`
		Replays      *int64   `json:"replays,omitempty" nullable:"true" minimum:"0" maximum:"1000"`
		WaitingBytes *int64   `json:"waiting_bytes,omitempty" nullable:"true" minimum:"1" maximum:"1125899906842624"`
		Weight       *int64   `json:"weight,omitempty" nullable:"true" minimum:"1" maximum:"100"`
	}
	allQuotaChangeDoc struct {
		_             struct{} `additionalProperties:"false"`
		CallbackTypes *int64   `json:"callback_types,omitempty" nullable:"true" minimum:"0" maximum:"100000"`
	}
)

func (s *server) quotas() {
	chapter := []string{"Operations"}
	merge := []string{mediaMergePatch, mediaJSON}
	const change = "Members that are given replace, null stands for the default. What is there already stays, even if it is more: only what is new is refused."
	register(s, operation{need: readQuotas, Operation: huma.Operation{
		OperationID: "get-company-quotas", Method: http.MethodGet, Path: companyQuotasRoute, Tags: chapter, Summary: "Show a company's quotas and their use",
	}}, func(ctx context.Context, in *companyIn) (*companyQuotasOut, error) {
		return shownQuotas(s.Client.Quotas(ctx, in.Company))
	})
	register(s, operation{need: manageQuotas, long: true, body: &body{schema: reflect.TypeFor[quotaChangeDoc](), mediaTypes: merge}, Operation: huma.Operation{
		OperationID: "set-company-quotas", Method: http.MethodPatch, Path: companyQuotasRoute, Tags: chapter, Summary: "Change a company's quotas",
		Description: change + " Takes an operator's key for all companies.", Errors: []int{http.StatusConflict},
	}}, func(ctx context.Context, in *companyQuotasIn) (*companyQuotasOut, error) {
		limits, err := decodeQuotas(in.RawBody)
		if err != nil {
			return nil, err
		}
		return shownQuotas(s.Client.SetQuotas(ctx, in.Company, limits))
	})
	register(s, operation{need: manageQuotas, Operation: huma.Operation{
		OperationID: "get-quotas", Method: http.MethodGet, Path: quotasRoute, Tags: chapter, Summary: "Show the installation's quotas and their use",
		Description: "Takes an operator's key for all companies.",
	}}, func(ctx context.Context, _ *struct{}) (*quotasOut, error) {
		return shownInstallation(s.Client.Quotas(ctx, ""))
	})
	register(s, operation{need: manageQuotas, body: &body{schema: reflect.TypeFor[allQuotaChangeDoc](), mediaTypes: merge}, Operation: huma.Operation{
		OperationID: "set-quotas", Method: http.MethodPatch, Path: quotasRoute, Tags: chapter, Summary: "Change the installation's quotas",
		Description: change + " Takes an operator's key for all companies.", Errors: []int{http.StatusConflict},
	}}, func(ctx context.Context, in *quotasIn) (*quotasOut, error) {
		limits, err := decodeQuotas(in.RawBody)
		if err != nil {
			return nil, err
		}
		return shownInstallation(s.Client.SetQuotas(ctx, "", limits))
	})
}

// decodeQuotas reads {"callbacks": 50, "replays": null}. The registry knows which quotas there are, and how large they may be.
func decodeQuotas(body []byte) (map[string]*int64, error) {
	limits := map[string]*int64{}
	err := registry.Members(body, func(name string, value json.RawMessage) string {
		var n *int64
		if json.Unmarshal(value, &n) != nil {
			return "must be a whole number, or null for the default"
		}
		limits[name] = n
		return ""
	})
	return limits, err
}

func shownQuotas(q *dispatcher.Quotas, err error) (*companyQuotasOut, error) {
	if err != nil {
		return nil, err
	}
	out := companyQuotas{Company: q.Company, CompanyLimits: limitsOf(q.Limits), Defaults: limitsOf(registry.DefaultQuotas(q.Company))}
	out.Used.Callbacks, out.Used.Replays = q.Used[registry.QuotaCallbacks], q.Used[registry.QuotaReplays]
	if waiting, counted := q.Used[registry.QuotaWaitingBytes]; counted {
		out.Used.WaitingBytes = &waiting
	}
	return &companyQuotasOut{out}, nil
}

func limitsOf(limits map[string]int64) CompanyLimits {
	l := CompanyLimits{Callbacks: limits[registry.QuotaCallbacks], Replays: limits[registry.QuotaReplays], Weight: limits[registry.QuotaWeight]}
	if waiting := limits[registry.QuotaWaitingBytes]; waiting >= 0 {
		l.WaitingBytes = &waiting
	}
	return l
}

func shownInstallation(q *dispatcher.Quotas, err error) (*quotasOut, error) {
	if err != nil {
		return nil, err
	}
	of := func(limits map[string]int64) InstallationLimits {
		return InstallationLimits{limits[registry.QuotaTypes]}
	}
	return &quotasOut{installationQuotas{of(q.Limits), of(q.Used), of(registry.DefaultQuotas(""))}}, nil
}
